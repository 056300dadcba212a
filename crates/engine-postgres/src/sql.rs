//! The statements, one `.sql` file each. In the files the schema is called `onefold`; here it
//! becomes whatever it is called.

/// A statement, by its place in [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sql(usize);

macro_rules! statements {
    ($($name:ident = $file:literal,)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "only their order is used")]
        enum Place { $($name,)+ }
        $(pub(crate) const $name: Sql = Sql(Place::$name as usize);)+
        const ALL: &[&str] = &[$(include_str!(concat!("../sql/", $file, ".sql")),)+];
        #[cfg(test)]
        pub(crate) const FILES: &[&str] = &[$($file,)+];
    };
}

statements! {
    GATE = "store/gate",
    SERVER = "store/server",
    SERVER_KNOWN = "store/server_known",
    TOKEN_HIGH_WATER = "store/token_high_water",
    TOKEN_RAISE = "store/token_raise",
    TOKEN_TAKE = "store/token_take",
    SEQ_TAKE = "store/seq_take",
    FIGURES = "store/figures",
    NODE_SEEN = "store/node_seen",
    NODE_GONE = "store/node_gone",
    NODES_FORGOTTEN = "store/nodes_forgotten",
    LOCK_JOBS = "jobs/lock",
    LOCK_FREE_JOBS = "jobs/lock_free",
    LOAD_JOBS = "jobs/load",
    LOAD_SPECS = "jobs/load_specs",
    LIST_JOBS = "jobs/list",
    LIST_END = "jobs/list_end",
    CHECKPOINT_BYTES = "jobs/checkpoint_bytes",
    PAYLOADS = "jobs/payloads",
    RESULT = "jobs/result",
    ATTEMPTS = "jobs/attempts",
    EVIDENCE = "jobs/evidence",
    STATES = "jobs/states",
    RECEIPTS_OF = "jobs/receipts",
    REDRIVABLE = "jobs/redrivable",
    INSERT_JOBS = "jobs/insert",
    INSERT_NEW_JOBS = "jobs/insert_new",
    UPDATE_JOBS = "jobs/update",
    UPDATE_LEASED = "jobs/update_leased",
    UPDATE_LEASED_ALIKE = "jobs/update_leased_alike",
    UPDATE_COMPLETED = "jobs/update_completed",
    UPDATE_COMPLETED_ALIKE = "jobs/update_completed_alike",
    UPDATE_PLAIN = "jobs/update_plain",
    INSERT_SPECS = "jobs/insert_spec",
    INSERT_PLAIN_SPECS = "jobs/insert_plain_spec",
    UPDATE_SPECS = "jobs/update_spec",
    UPDATE_LABELS = "jobs/update_labels",
    INSERT_ATTEMPTS = "jobs/insert_attempt",
    UPDATE_ATTEMPTS = "jobs/update_attempt",
    PUT_RESULTS = "jobs/put_result",
    DROP_RESULTS = "jobs/drop_result",
    PUT_CHECKPOINTS = "jobs/put_checkpoint",
    INSERT_EVIDENCE = "jobs/insert_evidence",
    TRIM_EVIDENCE = "jobs/trim_evidence",
    FOLD_REPEATS = "jobs/fold_repeats",
    FIND_KEYS = "keys/find",
    LOCK_KEYS = "keys/lock",
    INSERT_KEYS = "keys/insert",
    UPDATE_KEYS = "keys/update",
    DELETE_KEYS = "keys/delete",
    FREE_KEYS = "keys/free",
    DROP_KEYS = "keys/drop",
    CLAIM = "lease/claim",
    CLAIM_SEGMENTS = "lease/claim_segments",
    AWAIT_SEGMENT = "lease/await_segment",
    INSERT_SEGMENTS = "lease/insert_segments",
    UPDATE_SEGMENTS = "lease/update_segments",
    DELETE_SEGMENTS = "lease/delete_segments",
    LOAD_LEASES = "lease/load",
    INSERT_LEASES = "lease/insert",
    INSERT_WATCHES = "lease/insert_watches",
    ALL_WATCHES = "lease/all_watches",
    UPDATE_LEASES = "lease/update",
    PUT_OFF_LEASES = "lease/put_off",
    DELETE_LEASES = "lease/delete",
    INSERT_READY = "lease/insert_ready",
    DELETE_READY = "lease/delete_ready",
    DELIVERY_LINES = "lease/delivery_lines",
    RUNNING = "lease/running",
    BY_POLL = "lease/by_poll",
    LOCK_POLLS = "lease/lock_polls",
    ALL_LEASES = "lease/all",
    MAKE_GROUPS = "groups/make",
    LOCK_GROUPS = "groups/lock",
    LOCK_FREE_GROUPS = "groups/lock_free",
    FIRST_MEMBERS = "groups/first",
    INSERT_MEMBERS = "groups/insert_member",
    DELETE_MEMBERS = "groups/delete_member",
    INSERT_DIRTY = "groups/insert_dirty",
    TAKE_DIRTY = "groups/take_dirty",
    DIRTY_QUEUES = "groups/dirty_queues",
    ALL_DIRTY = "groups/all_dirty",
    LEADERS = "groups/leaders",
    PUBLISH = "groups/publish",
    GROUP_WAITING = "groups/waiting",
    LET_GO = "groups/let_go",
    INSERT_TIMERS = "tick/insert_timer",
    DELETE_TIMERS = "tick/delete_timer",
    DUE = "tick/due",
    LOST = "tick/lost",
    WATCHED = "tick/watched",
    STILL_RUNNING = "tick/still_running",
    UPDATE_WATCHES = "tick/update_watches",
    DELETE_WATCHES = "tick/delete_watches",
    OLD_WATCHES = "tick/old_watches",
    NEXT_DUE = "tick/next_due",
    AHEAD_RATES = "tick/ahead_rates",
    OPENED_RATES = "tick/opened_rates",
    STARTS = "queues/starts",
    PUT_STARTS = "queues/put_starts",
    DROP_STARTS = "queues/drop_starts",
    INSERT_FINISHED = "tick/insert_finished",
    DELETE_FINISHED = "tick/delete_finished",
    RETIRED = "tick/retired",
    INSERT_LOTS = "tick/insert_lots",
    RETIRED_LOTS = "tick/retired_lots",
    UPDATE_LOTS = "tick/update_lots",
    DELETE_LOTS = "tick/delete_lots",
    RECEIPTS = "tick/receipts",
    PURGE_JOBS = "tick/purge_jobs",
    PURGE_SPECS = "tick/purge_specs",
    PURGE_ATTEMPTS = "tick/purge_attempts",
    PURGE_EVIDENCE = "tick/purge_evidence",
    PURGE_RESULTS = "tick/purge_results",
    PURGE_CHECKPOINTS = "tick/purge_checkpoints",
    OLD_RECEIPTS = "tick/old_receipts",
    OLD_KEYS = "tick/old_keys",
    OLD_EVENTS = "tick/old_events",
    OLD_GROUPS = "tick/old_groups",
    QUEUES_BY_NAME = "queues/of_names",
    QUEUES_BY_NUMBER = "queues/of_numbers",
    QUEUES_OF_JOBS = "queues/of_jobs",
    QUEUES = "queues/all",
    LOCK_QUEUES = "queues/lock",
    MAKE_QUEUE = "queues/make",
    SET_QUEUE = "queues/set",
    BURY_QUEUE = "queues/bury",
    JOBS_OF_QUEUE = "queues/jobs_of",
    OLDEST = "queues/oldest",
    COUNTS = "queues/counts",
    INSERT_COUNTS = "queues/insert_counts",
    FOLD_COUNTS = "queues/fold_counts",
    DROP_READY = "queues/drop_ready",
    DROP_SEGMENTS = "queues/drop_segments",
    DROP_LEASES = "queues/drop_leases",
    DROP_FINISHED = "queues/drop_finished",
    DROP_LOTS = "queues/drop_lots",
    DROP_MEMBERS = "queues/drop_members",
    DROP_GROUPS = "queues/drop_groups",
    DROP_DIRTY = "queues/drop_dirty",
    LOCK_QUEUE_KEYS = "queues/lock_keys",
    LOCK_COUNTS = "queues/lock_counts",
    RECOUNT = "queues/recount",
    DROP_TIMERS = "queues/drop_timers",
    INSERT_EVENTS = "events/insert",
    NUMBER_EVENTS = "events/number",
    EVENTS_AFTER = "events/after",
    EVENT_ENDS = "events/ends",
    LOCK_EFFECTS = "effects/lock",
    INSERT_EFFECTS = "effects/insert",
    UPDATE_EFFECTS = "effects/update",
    GET_EFFECT = "effects/get",
    EFFECTS_OF_JOB = "effects/of_job",
    LIST_EFFECTS = "effects/list",
    LIST_UNCLEAR_EFFECTS = "effects/list_unclear",
    DUE_EFFECTS = "effects/due",
    DELETE_EFFECTS = "effects/delete",
    PUT_OFF_EFFECTS = "effects/put_off",
    EXECUTING_EFFECTS = "effects/executing",
    PURGE_EFFECTS = "tick/purge_effects",
    DUE_SCHEDULES = "schedules/due",
    DUE_SCHEDULE_IDS = "schedules/due_ids",
    LOCK_DUE_SCHEDULE = "schedules/lock_due",
    LOCK_SCHEDULE = "schedules/lock",
    SCHEDULE = "schedules/get",
    SCHEDULES = "schedules/page",
    OTHER_TZ = "schedules/other_tz",
    INSERT_SCHEDULE = "schedules/insert",
    UPDATE_SCHEDULES = "schedules/update",
    PUT_OFF_SCHEDULE = "schedules/put_off",
    DELETE_SCHEDULE = "schedules/delete",
    GET_SETTING = "settings/get",
    INSERT_SETTING = "settings/insert",
    UPDATE_SETTING = "settings/update",
}

/// The name of the schema in the files.
const PLACEHOLDER: &str = "onefold.";

/// `name` as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text from the files, for the schema called `schema`. Inside a string literal the identifier is
/// quoted for that, too.
pub(crate) fn for_schema(text: &str, schema: &str) -> String {
    let name = quoted(schema);
    text.replace(&format!("'{PLACEHOLDER}"), &format!("'{}.", name.replace('\'', "''")))
        .replace(PLACEHOLDER, &format!("{name}."))
}

/// All statements for one schema.
pub(crate) struct Statements(Vec<String>);

impl Statements {
    pub(crate) fn new(schema: &str) -> Statements {
        Statements(ALL.iter().map(|text| for_schema(text, schema)).collect())
    }

    pub(crate) fn text(&self, sql: Sql) -> &str {
        self.0.get(sql.0).map_or("", String::as_str)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Sql {
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_may_be_called_anything() {
        let text = "SELECT setval('onefold.token_seq', 1) FROM onefold.jobs";
        assert_eq!(
            for_schema(text, "a\"b'c"),
            "SELECT setval('\"a\"\"b''c\".token_seq', 1) FROM \"a\"\"b'c\".jobs"
        );
    }
}
