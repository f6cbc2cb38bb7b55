//! The statements that every database has, each in its own dialect.

use super::statement::statements;

statements! {
    /// What is not on the hot path, or is the same everywhere but for its text.
    CommonTexts => Common {
        /// The time of the statement.
        now,
        /// (text): answers it.
        echo,
        /// 1 if the table of migrations is there, else 0.
        has_migrations,
        /// The versions of what was applied, and the oldest library that fits.
        applied_migrations,
        /// Keeps renames out until the transaction ends.
        share_names,
        /// Keeps renames and fan-outs out until the transaction ends.
        lock_names,

        /// (id): a stored event.
        find_event,
        /// (id): its id, locked.
        lock_event,
        lock_event_skip,
        /// (id): its id if it is on the queue, locked.
        lock_unprocessed,
        lock_unprocessed_skip,
        /// (id): its id if it waits, locked.
        lock_waiting_event,
        lock_waiting_event_skip,
        /// How many events are unprocessed.
        count_unprocessed,
        /// The smallest id of an unprocessed event.
        oldest_unprocessed,
        /// (names, entity_name, entity_id, since, until, processed, has_requests): how many.
        count_events,
        /// (names, entity_name, entity_id, since, until, processed, has_requests, after, limit,
        /// offset): stored events.
        list_events,
        /// As list_events: ids and names.
        list_event_ids,
        /// (after, limit): the ids of processed events, and when those were processed that nobody
        /// wanted.
        processed_events,
        /// Now, whether an event is due, and when the next one that backs off is.
        next_due_event,

        /// (id): a request.
        find_request,
        /// (id): a request, locked.
        lock_request,
        lock_request_skip,
        /// (event, lowest id, highest id): its requests, by handler.
        requests_of_event,
        /// How many requests are open.
        count_open,
        /// The smallest id of an open request.
        oldest_open,
        /// How many requests are dead.
        count_dead,
        /// (states, event_names, handlers, entity_name, entity_id, since, until, error): how many.
        count_requests,
        /// (states, event_names, handlers, entity_name, entity_id, since, until, error, after, limit,
        /// offset): requests.
        list_requests,
        /// As list_requests, of the dead; the states are there and do not matter.
        list_dead,
        dead_event_names,
        dead_handler_names,
        /// (handlers): now, and when the next request that backs off is due.
        next_due_request,
        /// (handlers): 1 if one of their requests is due that is under suspicion, else 0.
        suspect_due,
        /// Now, and when the earliest lease runs out.
        next_expiry,
        /// (time, id): lets the lease of a request run out then.
        put_off_rescue,
        /// (time, id): lets a request back off until then.
        put_off_claim,
        /// (handlers, whether to tell of leases): now; whether an event is due; when the next one is
        /// that backs off; whether a request is due; whether one is that is under suspicion; when the
        /// next one is that backs off; when the earliest lease runs out.
        look,
        /// (handlers): the best priority that is due, suspects aside.
        best_due,
        /// (handler, limit) for each of the four queues and for those that execute: the ids of its
        /// open and dead requests and of their events, so many of each.
        open_and_dead_of,
        /// (handler): how many of its requests are open.
        count_open_of,

        /// All registrations, by handler and pattern.
        all_registrations,
        /// (handler, pattern, priority, max_errors, hash, prefix, specificity, state, renamed_to,
        /// last_seen_at): inserts or updates one.
        put_registration,
        /// (handler, pattern): deletes one.
        delete_registration,
        /// (handlers): marks them as seen now.
        touch_handlers,
    }
}
