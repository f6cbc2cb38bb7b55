//! The statements that change registrations.

use std::{collections::BTreeMap, time::Duration};

use super::{
    lock_table::LockKey,
    registration_table::Registrations,
    scope::{Scope, Statement, Stop},
};
use crate::{
    error::StoreError,
    id::{EventId, HandlerHash, HandlerRequestId},
    model::{Registration, RegistrationState},
    store::{AbsentHandler, LockMode, Registered, Renamed},
    text::Name,
};

impl Scope<'_> {
    pub(super) fn register(&mut self, registrations: &[Registration]) -> Statement<Registered> {
        let check = registrations
            .iter()
            .try_for_each(Registration::check_storable);
        check.map_err(Stop::Failed)?;
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

    pub(super) fn rename(&mut self, from: &Name, to: &Name) -> Statement<u64> {
        Registration::check_new_name(to).map_err(Stop::Failed)?;
        self.lock(LockKey::Registrations)?;
        self.lock(LockKey::Names)?;
        if from == to {
            return Ok(0);
        }
        let all = self.registrations();
        let is_moved = |one: &Registration| one.handler == *from && !is_signpost(one);
        if !all.values().any(is_moved) {
            return Ok(0);
        }
        if let Some(today) = Registration::name_today(all.values(), to)
            && today != *from
            && self.open_and_dead_of(to).next().is_some()
        {
            return Err(Stop::Failed(Registration::left_behind(to, &today)));
        }
        Ok(rename_registrations(self.change_registrations(), from, to))
    }

    pub(super) fn rename_requests(&mut self, from: &Name, limit: usize) -> Statement<Renamed> {
        self.share_names()?;
        let Some(today) = Registration::name_today(self.registrations().values(), from) else {
            return Ok(Renamed::default());
        };
        let found: Vec<_> = self.open_and_dead_of(from).take(limit).collect();
        let mut renamed = Renamed::default();
        let mut held = Vec::with_capacity(found.len());
        for &(id, event) in &found {
            let skip = LockMode::SkipLocked;
            // The lock keeps a replay from making a request of the new name meanwhile.
            if self.lock_event(event, skip)? && self.lock_request(id, skip)? {
                held.push((id, event));
            } else {
                renamed.skipped += 1;
            }
        }
        renamed.more = found.len() >= limit && !held.is_empty();
        for (id, event) in held {
            self.rename_request(id, event, &today, &mut renamed);
        }
        self.effects.settled |= renamed.superseded > 0;
        Ok(renamed)
    }

    /// The open and dead requests of a handler, and their events.
    fn open_and_dead_of(
        &self,
        handler: &Name,
    ) -> impl Iterator<Item = (HandlerRequestId, EventId)> {
        self.open_requests()
            .chain(self.all_dead_requests())
            .filter(move |view| view.request.handler == *handler)
            .map(|view| (view.request.id, view.request.event_id))
    }

    fn rename_request(
        &mut self,
        id: HandlerRequestId,
        event: EventId,
        to: &Name,
        renamed: &mut Renamed,
    ) {
        let now = self.now;
        let has_name = |id: &HandlerRequestId| {
            self.request(*id)
                .is_some_and(|request| request.handler == *to)
        };
        let is_taken = self.requests_of_event(event).iter().any(has_name);
        self.update_request(id, |request| {
            if is_taken {
                request.supersede(now, to)?;
                renamed.superseded += 1;
            } else {
                request.handler = to.clone();
                renamed.requests += 1;
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
/// Answers how many there were to move.
fn rename_registrations(registrations: &mut Registrations, from: &Name, to: &Name) -> u64 {
    let old: Vec<_> = registrations
        .values()
        .filter(|registration| registration.handler == *from)
        .cloned()
        .collect();
    let moved = old.iter().filter(|one| !is_signpost(one)).count();
    // A signpost at the new name would lead back to the old one.
    registrations.retain(|(handler, _), registration| handler != to || !is_signpost(registration));
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
    moved as u64
}

fn is_signpost(registration: &Registration) -> bool {
    matches!(registration.state, RegistrationState::RenamedTo(_))
}
