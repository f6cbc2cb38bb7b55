//! Values that hooks leave for later hooks and for the handler, by their types.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use parking_lot::Mutex;

type Values = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// At most one value of each type. Empty, and without an allocation, in most executions.
#[derive(Default)]
pub(super) struct Extensions(Mutex<Option<Values>>);

impl Extensions {
    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let values = self.0.lock();
        let value = values.as_ref()?.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    /// Puts a value in, and replaces an earlier one of its type.
    pub(super) fn insert<T: Send + Sync + 'static>(&self, value: T) {
        let mut values = self.0.lock();
        let all = values.get_or_insert_default();
        let replaced = all.insert(TypeId::of::<T>(), Arc::new(value));
        // It is the application's, and may come back here when it is dropped.
        drop(values);
        drop(replaced);
    }
}
