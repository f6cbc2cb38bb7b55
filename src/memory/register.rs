//! The statements that change registrations.

use std::{collections::BTreeMap, time::Duration};

use super::{
    lock_table::LockKey,
    registration_table::Registrations,
    scope::{Scope, Statement, Stop},
};
use crate::{
    error::StoreError,
    id::{HandlerHash, HandlerRequestId},
    model::{HandlerRequest, Registration, RegistrationState},
    store::{AbsentHandler, LockMode, Registered, Renamed},
    text::Name,
};

impl Scope<'_> {
    pub(super) fn register(&mut self, registrations: &[Registration]) -> Statement<Registered> {
        self.lock(LockKey::Registrations)?;
        let now = self.now;
        let mut registered = Registered::default();
        let table = self.change_registrations();
        let known = table.keys().map(|(handler, _)| handler);
        let names = known.chain(registrations.iter().map(|new| &new.handler));
        if let Some((one, other)) = HandlerHash::clash(names.map(Name::as_str)) {
            let clash = StoreError::invalid(
                format!("the registration of handlers {one:?} and {other:?}"),
                "has names that hash alike",
                "rename one of them",
            );
            return Err(Stop::Failed(clash));
        }
        for registration in registrations {
            let handler = &registration.handler;
            if let Some(renamed) = Registration::name_today(table.values(), handler) {
                if registered.renamed.iter().all(|(old, _)| old != handler) {
                    registered.renamed.push((handler.clone(), renamed));
                }
                continue;
            }
            let active = Registration {
                state: RegistrationState::Active,
                last_seen_at: now,
                ..registration.clone()
            };
            table.insert((handler.clone(), registration.pattern.clone()), active);
        }
        Ok(registered)
    }

    pub(super) fn touch(&mut self, handlers: &[Name]) -> Statement<()> {
        self.lock(LockKey::Registrations)?;
        let now = self.now;
        for ((handler, _), registration) in self.change_registrations() {
            if handlers.contains(handler) {
                registration.last_seen_at = now;
            }
        }
        Ok(())
    }

    pub(super) fn retire(&mut self, handler: &Name) -> Statement<u64> {
        self.lock(LockKey::Registrations)?;
        let mut retired = 0;
        for registration in self.change_registrations().values_mut() {
            if registration.handler == *handler && registration.state == RegistrationState::Active {
                registration.state = RegistrationState::Retired;
                retired += 1;
            }
        }
        Ok(retired)
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name) -> Statement<Renamed> {
        self.lock(LockKey::Registrations)?;
        self.lock(LockKey::Names)?;
        if from == to {
            return Ok(Renamed::default());
        }
        let named = |request: &HandlerRequest| request.handler == *from;
        let open = self
            .open_requests()
            .filter(|view| named(view.request))
            .map(|view| view.request.id);
        let mut ids: Vec<_> = open.collect();
        ids.extend(
            self.all_dead_requests()
                .filter(|view| named(view.request))
                .map(|view| view.request.id),
        );
        for id in &ids {
            self.lock_request(*id, LockMode::Wait)?;
        }
        rename_registrations(self.change_registrations(), from, to);
        let mut renamed = Renamed::default();
        for id in ids {
            self.rename_request(id, to, &mut renamed);
        }
        self.effects.settled |= renamed.superseded > 0;
        Ok(renamed)
    }

    fn rename_request(&mut self, id: HandlerRequestId, to: &Name, renamed: &mut Renamed) {
        let now = self.now;
        let Some(event) = self.request(id).map(|request| request.event_id) else {
            return;
        };
        let has_name = |id: &HandlerRequestId| {
            self.request(*id)
                .is_some_and(|request| request.handler == *to)
        };
        let is_taken = self.requests_of_event(event).iter().any(has_name);
        self.update_request(id, |request| {
            if !is_taken {
                request.handler = to.clone();
                renamed.requests += 1;
            } else if request.is_open() {
                request.remember(
                    now,
                    &format!(
                        "superseded: the event has a request of {to:?}, its handler's new name"
                    ),
                );
                request.cancel(now)?;
                renamed.superseded += 1;
            }
            Ok::<_, crate::model::Refusal>(())
        });
    }

    pub(super) fn absent(&self, longer_than: Duration) -> Vec<AbsentHandler> {
        let mut last_seen = BTreeMap::new();
        for registration in self.registrations().values() {
            if registration.state == RegistrationState::Active {
                let seen = last_seen
                    .entry(&registration.handler)
                    .or_insert(registration.last_seen_at);
                *seen = registration.last_seen_at.max(*seen);
            }
        }
        let since = |seen| crate::clock::between(seen, self.now);
        last_seen
            .into_iter()
            .filter(|(_, seen)| since(*seen) >= longer_than)
            .map(|(handler, last_seen_at)| AbsentHandler {
                handler: handler.clone(),
                last_seen_at,
                open_requests: self.count_open_of(handler),
            })
            .filter(|absent| absent.open_requests > 0)
            .collect()
    }
}

/// Moves patterns to the new name, unless it has them, and leaves the old name as a signpost.
fn rename_registrations(registrations: &mut Registrations, from: &Name, to: &Name) {
    let old: Vec<_> = registrations
        .values()
        .filter(|registration| registration.handler == *from)
        .cloned()
        .collect();
    if old
        .iter()
        .all(|registration| matches!(registration.state, RegistrationState::RenamedTo(_)))
    {
        return;
    }
    // A signpost at the new name would lead back to the old one.
    registrations.retain(|(handler, _), registration| {
        handler != to || !matches!(registration.state, RegistrationState::RenamedTo(_))
    });
    for registration in old {
        let is_active = registration.state == RegistrationState::Active;
        let place = (to.clone(), registration.pattern.clone());
        let has = registrations
            .get(&place)
            .is_some_and(|there| there.state == RegistrationState::Active);
        if is_active && !has {
            registrations.insert(
                place,
                Registration {
                    handler: to.clone(),
                    ..registration.clone()
                },
            );
        }
        if let Some(signpost) = registrations.get_mut(&(from.clone(), registration.pattern)) {
            signpost.state = RegistrationState::RenamedTo(to.clone());
        }
    }
}
