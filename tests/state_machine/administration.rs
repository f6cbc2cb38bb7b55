//! What operators do, and registrations.

use tidings::{
    EventPattern, ExecutionError, HandlerRequest, Name, Priority, Refusal, Registration,
    RegistrationState, RequestState, StoreError,
    store::{LockMode, Renamed, RequestFilter},
};

use crate::{driver::*, model::Locks};

impl Driver {
    pub(crate) async fn operate(&mut self, inside: bool, request: usize, action: usize) {
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let Some(id) = chosen(&rows.requests, request).map(|row| row.id) else {
            return;
        };
        let mut requests = self.session(inside).handler_requests();
        let answer = match action {
            0 => requests.cancel(id).await,
            1 => requests.reexecute(id).await,
            _ => requests.run_now(id).await,
        };
        drop(requests);
        if locks.requests.contains(&id) {
            return assert_locked(answer);
        }
        let now = self.model.now;
        let row = rows.request(id).unwrap();
        let expected = match action {
            0 => row.cancel(now),
            1 => row.reexecute(now),
            _ => row.run_now(now),
        };
        match (answer, expected) {
            (Ok(()), Ok(())) => {}
            (Err(StoreError::Refused { state, .. }), Err(Refusal::State(expected))) => {
                assert_eq!(state, expected.to_string())
            }
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
        let locked = Locks {
            requests: [id].into(),
            ..Locks::default()
        };
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn reexecute_dead(
        &mut self,
        inside: bool,
        limit: usize,
        handler: Option<usize>,
    ) {
        let handlers = handler.map(|index| HANDLERS[index % 3]);
        let filter = RequestFilter::default().of_handlers(handlers);
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .reexecute_dead(&filter, limit)
            .await;
        let now = self.model.now;
        let mut locked = Locks::default();
        let is_dead = |row: &&mut HandlerRequest| {
            row.state(now) == RequestState::Dead
                && (filter.handlers.is_empty() || filter.handlers.contains(&row.handler))
        };
        let dead: Vec<_> = rows
            .requests
            .iter_mut()
            .filter(is_dead)
            .take(limit)
            .collect();
        if dead.iter().any(|row| locks.requests.contains(&row.id)) {
            return assert_locked(answer);
        }
        assert_eq!(answer.unwrap(), dead.len() as u64);
        for row in dead {
            row.reexecute(now).unwrap();
            locked.requests.insert(row.id);
        }
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn lock(
        &mut self,
        inside: bool,
        request: Option<usize>,
        event: Option<usize>,
    ) {
        let (rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        if let Some(row) = request.and_then(|index| chosen(&rows.requests, index)) {
            let skipped = self
                .session(inside)
                .handler_requests()
                .find_for_update(row.id, LockMode::SkipLocked)
                .await
                .unwrap();
            assert_eq!(
                skipped,
                Some(row.clone()).filter(|_| !locks.requests.contains(&row.id))
            );
            let answer = self
                .session(inside)
                .handler_requests()
                .find_for_update(row.id, LockMode::Wait)
                .await;
            if locks.requests.contains(&row.id) {
                return assert_locked(answer);
            }
            assert_eq!(answer.unwrap().as_ref(), Some(&row));
            let locked = Locks {
                requests: [row.id].into(),
                ..Locks::default()
            };
            self.model.write(inside, &rows, locked);
        }
        if let Some(row) = event.and_then(|index| chosen(&rows.events, index)) {
            let answer = self
                .session(inside)
                .events()
                .find_for_update(row.id, LockMode::Wait)
                .await;
            if locks.events.contains(&row.id) {
                return assert_locked(answer);
            }
            assert_eq!(answer.unwrap().unwrap().event.id, row.id);
            let locked = Locks {
                events: [row.id].into(),
                ..Locks::default()
            };
            self.model.write(inside, &rows, locked);
        }
    }

    pub(crate) async fn register(
        &mut self,
        inside: bool,
        registrations: &[(usize, usize, i16, u32)],
    ) {
        let registrations: Vec<_> = registrations
            .iter()
            .map(|(pattern, handler, priority, max_errors)| {
                let pattern = EventPattern::parse(PATTERNS[pattern % 5]).unwrap();
                Registration::new(
                    pattern,
                    HANDLERS[handler % 3].into(),
                    Priority::new(*priority).unwrap(),
                    *max_errors,
                )
            })
            .collect();
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .registrations()
            .register(&registrations)
            .await;
        if locks.registrations {
            return assert_locked(answer);
        }
        for mut registration in registrations {
            let is_renamed = |row: &Registration| {
                row.handler == registration.handler
                    && matches!(row.state, RegistrationState::RenamedTo(_))
            };
            let renamed = rows.registrations.iter().any(is_renamed);
            let told = answer
                .as_ref()
                .unwrap()
                .renamed
                .iter()
                .any(|(old, _)| *old == registration.handler);
            assert_eq!(told, renamed);
            if renamed {
                continue;
            }
            rows.registrations.retain(|row| {
                row.handler != registration.handler || row.pattern != registration.pattern
            });
            registration.last_seen_at = self.model.now;
            rows.registrations.push(registration);
        }
        rows.sort();
        self.model.write(
            inside,
            &rows,
            Locks {
                registrations: true,
                ..Locks::default()
            },
        );
    }

    pub(crate) async fn retire(&mut self, inside: bool, handler: usize) {
        let handler = Name::from(HANDLERS[handler % 3]);
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self.session(inside).registrations().retire(&handler).await;
        if locks.registrations {
            return assert_locked(answer);
        }
        let mut retired = 0;
        for row in rows
            .registrations
            .iter_mut()
            .filter(|row| row.handler == handler && row.state == RegistrationState::Active)
        {
            row.state = RegistrationState::Retired;
            retired += 1;
        }
        assert_eq!(answer.unwrap(), retired);
        self.model.write(
            inside,
            &rows,
            Locks {
                registrations: true,
                ..Locks::default()
            },
        );
    }

    pub(crate) async fn rename(&mut self, inside: bool, from: usize, to: usize) {
        let (from, to) = (Name::from(HANDLERS[from % 3]), Name::from(HANDLERS[to % 3]));
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .registrations()
            .rename(&from, &to)
            .await;
        if locks.registrations || locks.renames || locks.fan_outs {
            return assert_locked(answer);
        }
        let is_moved = |row: &&Registration| from != to && row.handler == from && !is_signpost(row);
        let moved = rows.registrations.iter().filter(is_moved).count() as u64;
        let now = self.model.now;
        let today = Registration::name_today(&rows.registrations, &to);
        let others_go_by_it = today.is_some_and(|today| today != from)
            && rows.requests.iter().any(|row| {
                row.handler == to && (row.is_open() || row.state(now) == RequestState::Dead)
            });
        if moved > 0 && others_go_by_it {
            assert!(
                matches!(answer, Err(StoreError::Invalid { .. })),
                "{answer:?}"
            );
        } else {
            assert_eq!(answer.unwrap(), moved);
            if moved > 0 {
                rename_registrations(&mut rows.registrations, &from, &to);
            }
            rows.sort();
        }
        let locked = Locks {
            registrations: true,
            renames: true,
            ..Locks::default()
        };
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn rename_requests(&mut self, inside: bool, from: usize, limit: usize) {
        let from = Name::from(HANDLERS[from % 3]);
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let mut registrations = self.session(inside).registrations();
        let answer = registrations.rename_requests(&from, limit).await;
        drop(registrations);
        if locks.renames {
            return assert_locked(answer);
        }
        let mut locked = Locks {
            fan_outs: true,
            ..Locks::default()
        };
        let Some(today) = Registration::name_today(&rows.registrations, &from) else {
            assert_eq!(answer.unwrap(), Renamed::default());
            self.model.write(inside, &rows, locked);
            return;
        };
        let now = self.model.now;
        let is_dead = |row: &HandlerRequest| row.state(now) == RequestState::Dead;
        let mut found: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| row.handler == from && (row.is_open() || is_dead(row)))
            .map(|row| (is_dead(row), row.id, row.event_id))
            .collect();
        found.sort_unstable();
        found.truncate(limit);
        let is_locked = |(_, id, event): &(bool, _, _)| {
            locks.events.contains(event) || locks.requests.contains(id)
        };
        if found.iter().any(is_locked) {
            return assert_locked(answer);
        }
        let mut expected = (0, 0, limit > 0 && found.len() == limit);
        for (_, id, event) in found {
            locked.events.insert(event);
            locked.requests.insert(id);
            let is_taken = rows
                .requests
                .iter()
                .any(|row| row.event_id == event && row.handler == today);
            let row = rows.request(id).unwrap();
            if is_taken {
                let message = format!(
                    "superseded: the event has a request of {today:?}, its handler's new name"
                );
                row.last_errors.push(ExecutionError {
                    at: now,
                    attempt: row.attempt,
                    message,
                });
                if row.last_errors.len() > ExecutionError::KEPT {
                    row.last_errors.remove(0);
                }
                row.cancel(now).unwrap();
                expected.1 += 1;
            } else {
                row.handler = today.clone();
                expected.0 += 1;
            }
        }
        rows.sort();
        let Renamed {
            requests,
            superseded,
            more,
            ..
        } = answer.unwrap();
        assert_eq!((requests, superseded, more), expected);
        self.model.write(inside, &rows, locked);
    }
}

fn is_signpost(row: &Registration) -> bool {
    matches!(row.state, RegistrationState::RenamedTo(_))
}

fn rename_registrations(registrations: &mut Vec<Registration>, from: &Name, to: &Name) {
    registrations.retain(|row| row.handler != *to || !is_signpost(row));
    let mut moved = Vec::new();
    for row in registrations.iter_mut().filter(|row| row.handler == *from) {
        if row.state == RegistrationState::Active {
            let mut there = row.clone();
            there.handler = to.clone();
            moved.push(there);
        }
        row.state = RegistrationState::RenamedTo(to.clone());
    }
    for there in moved {
        let is_there = |row: &Registration| row.handler == *to && row.pattern == there.pattern;
        if !registrations
            .iter()
            .any(|row| is_there(row) && row.state == RegistrationState::Active)
        {
            registrations.retain(|row| !is_there(row));
            registrations.push(there);
        }
    }
}
