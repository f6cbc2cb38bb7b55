//! Registrations: a small table, read as a whole and changed under a lock that keeps fan-outs out.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    arg::{Arg, args},
    link::Link,
    records::{registration, registration_state, wanted},
    rename,
};
use crate::{
    clock::between,
    error::{Chain, Result, StoreError},
    id::HandlerHash,
    model::{EventPattern, Registration, RegistrationState},
    store::{AbsentHandler, Registered},
    text::Name,
};

/// Registrations by handler and pattern.
type Table = BTreeMap<(Name, EventPattern), Registration>;

/// All registrations, in the order (handler, pattern).
pub(super) async fn registrations(link: &mut Link<'_>) -> Result<Vec<Registration>> {
    let rows = link
        .rows(&link.shared.common.all_registrations, args![])
        .await?;
    rows.iter().map(registration).collect()
}

/// All registrations that can be read, so that one that somebody has damaged keeps no other from
/// being registered, retired or renamed. Registering its handler again mends it.
async fn readable(link: &mut Link<'_>) -> Result<Vec<Registration>> {
    let rows = link
        .rows(&link.shared.common.all_registrations, args![])
        .await?;
    let read = |row| registration(row).inspect_err(tell).ok();
    Ok(rows.iter().filter_map(read).collect())
}

/// All registrations as a fan-out needs them: without priority or max errors that can be read, its
/// requests get the defaults, since what is left out here is never handled.
pub(super) async fn registrations_for_fan_out(link: &mut Link<'_>) -> Result<Vec<Registration>> {
    let rows = link
        .rows(&link.shared.common.all_registrations, args![])
        .await?;
    let read = |row| {
        registration(row)
            .inspect_err(tell)
            .or_else(|_| wanted(row))
            .ok()
    };
    Ok(rows.iter().filter_map(read).collect())
}

fn tell(error: &StoreError) {
    tracing::error!(error = %Chain(error), "a registration cannot be read");
}

async fn table(link: &mut Link<'_>) -> Result<Table> {
    let all = readable(link).await?;
    Ok(all
        .into_iter()
        .map(|one| ((one.handler.clone(), one.pattern.clone()), one))
        .collect())
}

/// Keeps renames out until the transaction ends.
pub(super) async fn share_names(link: &mut Link<'_>) -> Result<()> {
    link.rows(&link.shared.common.share_names, args![]).await?;
    Ok(())
}

/// Keeps renames and fan-outs out until the transaction ends.
async fn lock_names(link: &mut Link<'_>) -> Result<()> {
    link.shared.dialect.bound_standstill(link).await?;
    link.rows(&link.shared.common.lock_names, args![]).await?;
    Ok(())
}

async fn put(link: &mut Link<'_>, registration: &Registration) -> Result<()> {
    let pattern = registration.pattern.as_str();
    let renamed_to = match &registration.state {
        RegistrationState::RenamedTo(name) => Some(name.as_str()),
        _ => None,
    };
    // The longest prefix before the exact names, which are more specific than any.
    let specificity =
        i64::try_from(registration.pattern.specificity()).unwrap_or(i64::from(i32::MAX));
    let args = args![
        registration.handler.as_str(),
        pattern,
        i64::from(registration.priority.get()),
        i64::from(registration.max_errors),
        i64::from(HandlerHash::of(&registration.handler).signed()),
        pattern.strip_suffix('*'),
        specificity,
        registration_state(&registration.state),
        renamed_to,
        registration.last_seen_at,
    ];
    link.execute(&link.shared.common.put_registration, args)
        .await?;
    Ok(())
}

async fn delete(link: &mut Link<'_>, handler: &Name, pattern: &EventPattern) -> Result<()> {
    let args = args![handler.as_str(), pattern.as_str()];
    link.execute(&link.shared.common.delete_registration, args)
        .await?;
    Ok(())
}

/// See [`RegistrationRepository::register`](crate::store::RegistrationRepository::register).
pub(super) async fn register(link: &mut Link<'_>, new: &[Registration]) -> Result<Registered> {
    new.iter().try_for_each(Registration::check_storable)?;
    lock_names(link).await?;
    let now = super::now(link).await?;
    let table = table(link).await?;
    let known = table.keys().map(|(handler, _)| handler);
    let names = known.chain(new.iter().map(|new| &new.handler));
    if let Some((one, other)) = HandlerHash::clash(names.map(Name::as_str)) {
        return Err(StoreError::invalid(
            format!("the registration of handlers {one:?} and {other:?}"),
            "has names that hash alike",
            "rename one of them",
        ));
    }
    let mut registered = Registered::default();
    let mut new: Vec<_> = new.iter().collect();
    // In the order in which others lock them.
    new.sort_unstable_by_key(|one| (&one.handler, &one.pattern));
    for registration in new {
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
        put(link, &active).await?;
    }
    Ok(registered)
}

/// See [`RegistrationRepository::touch`](crate::store::RegistrationRepository::touch).
pub(super) async fn touch(link: &mut Link<'_>, handlers: &[Name]) -> Result<()> {
    // Those who register lock the rows in another order.
    share_names(link).await?;
    let handlers = super::fan_out::names(handlers);
    link.execute(&link.shared.common.touch_handlers, vec![handlers])
        .await?;
    Ok(())
}

/// See [`RegistrationRepository::retire`](crate::store::RegistrationRepository::retire).
pub(super) async fn retire(link: &mut Link<'_>, handler: &Name) -> Result<u64> {
    lock_names(link).await?;
    let mut retired = 0;
    for mut registration in readable(link).await? {
        if registration.handler == *handler && registration.state == RegistrationState::Active {
            registration.state = RegistrationState::Retired;
            put(link, &registration).await?;
            retired += 1;
        }
    }
    Ok(retired)
}

/// See [`RegistrationRepository::rename`](crate::store::RegistrationRepository::rename).
pub(super) async fn rename(link: &mut Link<'_>, from: &Name, to: &Name) -> Result<u64> {
    Registration::check_new_name(to)?;
    if from == to {
        return Ok(0);
    }
    lock_names(link).await?;
    let table = table(link).await?;
    let is_moved = |one: &Registration| one.handler == *from && !is_signpost(one);
    if !table.values().any(is_moved) {
        return Ok(0);
    }
    if let Some(today) = Registration::name_today(table.values(), to)
        && today != *from
        && !rename::open_and_dead_of(link, to, 1).await?.is_empty()
    {
        return Err(Registration::left_behind(to, &today));
    }
    rename_registrations(link, table, from, to).await
}

fn is_signpost(registration: &Registration) -> bool {
    matches!(registration.state, RegistrationState::RenamedTo(_))
}

/// Moves patterns to the new name, unless it has them, and leaves the old name as a signpost.
/// Answers how many there were to move.
async fn rename_registrations(
    link: &mut Link<'_>,
    table: Table,
    from: &Name,
    to: &Name,
) -> Result<u64> {
    let old: Vec<_> = table
        .values()
        .filter(|registration| registration.handler == *from)
        .collect();
    let moved = old.iter().filter(|one| !is_signpost(one)).count();
    // A signpost at the new name would lead back to the old one.
    for registration in table.values() {
        if registration.handler == *to && is_signpost(registration) {
            delete(link, to, &registration.pattern).await?;
        }
    }
    for registration in old {
        let has = table
            .get(&(to.clone(), registration.pattern.clone()))
            .is_some_and(|there| there.state == RegistrationState::Active);
        if registration.state == RegistrationState::Active && !has {
            let moved = Registration {
                handler: to.clone(),
                ..registration.clone()
            };
            put(link, &moved).await?;
        }
        let signpost = Registration {
            state: RegistrationState::RenamedTo(to.clone()),
            ..registration.clone()
        };
        put(link, &signpost).await?;
    }
    Ok(moved as u64)
}

/// See [`RegistrationRepository::absent`](crate::store::RegistrationRepository::absent).
pub(super) async fn absent(
    link: &mut Link<'_>,
    longer_than: Duration,
) -> Result<Vec<AbsentHandler>> {
    let now = super::now(link).await?;
    let mut last_seen: BTreeMap<Name, DateTime<Utc>> = BTreeMap::new();
    for registration in readable(link).await? {
        if registration.state == RegistrationState::Active {
            let seen = last_seen
                .entry(registration.handler)
                .or_insert(registration.last_seen_at);
            *seen = registration.last_seen_at.max(*seen);
        }
    }
    let mut absent = Vec::new();
    for (handler, last_seen_at) in last_seen {
        if between(last_seen_at, now) < longer_than {
            continue;
        }
        let count = &link.shared.common.count_open_of;
        let open = super::count(link, count, vec![Arg::from(handler.as_str())]).await?;
        if open > 0 {
            absent.push(AbsentHandler::new(handler, last_seen_at, open));
        }
    }
    Ok(absent)
}
