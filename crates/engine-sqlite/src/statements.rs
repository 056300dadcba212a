//! The statements of the writer, prepared once. Each is a file in `sql/`.

use rusqlite::{Connection, Statement};

macro_rules! statements {
    ($($name:ident),+ $(,)?) => {
        /// See the [module](self).
        pub(crate) struct Statements<'c> { $(pub(crate) $name: Statement<'c>,)+ }

        impl<'c> Statements<'c> {
            pub(crate) fn prepare(conn: &'c Connection) -> rusqlite::Result<Statements<'c>> {
                Ok(Statements { $($name: conn.prepare(include_str!(concat!("../sql/", stringify!($name), ".sql")))?,)+ })
            }
        }
    };
}

statements! {
    job_numbers, job_retention, job_run, jobs_unfinished, ledger_delete_run, spec_run, ledger_delete_queue, attempt_insert, attempt_select, attempts_delete, checkpoint_bytes, checkpoint_put, checkpoint_select, checkpoints_delete,
    event_insert, event_retire, evidence_delete, evidence_last, evidence_put, group_delete, group_names, group_put,
    group_select, job_insert, job_select, job_update, jobs_delete, ledger_delete,
    ledger_head, ledger_insert, ledger_select, meta_update, queue_bury, queue_forget, queue_insert,
    queue_update, receipt_put, receipt_retire, receipt_select, result_put, result_select, results_delete,
    retention_delete, retention_put, set_delete, set_put, setting_put, setting_select, spec_insert, spec_update, spec_select,
    specs_delete, timers_delete_job, groups_delete_queue, sealed_insert, sealed_select, sealed_delete, sealed_places, filter_put, sealing_put, timer_delete, timer_put, timer_scan, evidence_select,
    effect_delete, effect_put, effect_put_off, effect_select, effect_update, effects_delete, effects_due, effects_executing,
    effects_next_due, effects_of_job,
    schedule_put, schedule_select, schedule_delete, schedule_due, schedule_heads, schedule_other_tz,
}
