//! The list of cases, and the macro that makes a test of each.

/// Makes a `#[test]` of every case, named `$name::part::case`, on fresh stores of `$harness`, a
/// [`Harness`](crate::Harness) named by its full path.
#[macro_export]
macro_rules! conformance_tests {
    ($name:ident, $harness:ty) => {
        mod $name {
            $crate::part_tests! { $harness; add:
                a_new_job_is_available_at_once,
                a_delayed_job_waits_for_its_time,
                a_time_in_the_past_means_now,
                a_batch_answers_each_item_in_order,
                an_atomic_batch_adds_all_or_none,
                ids_are_never_given_again,
                i1_accepted_jobs_survive_a_crash,
                everything_given_is_delivered_unchanged,
                the_first_add_makes_the_queue,
                jobs_without_a_key_are_never_repeats,
            }
            $crate::part_tests! { $harness; budget:
                i10_failures_use_up_max_attempts,
                failures_and_lost_leases_share_the_budget,
                one_attempt_is_one_delivery,
                the_default_is_twenty,
                a_lost_lease_makes_the_job_available_at_once,
                i10_the_sixth_lost_lease_in_a_day_is_a_crash_loop,
                losses_of_yesterday_are_no_crash_loop,
                failures_are_no_crash_loop,
                snoozed_and_released_leases_cost_nothing,
                the_default_backoff_doubles_from_five_seconds,
                waits_are_drawn_apart,
                backoff_of_ones_own,
                only_failures_lengthen_the_backoff,
                the_hard_limit_ends_an_attempt_as_a_failure,
                what_ran_out_first_counts_whenever_the_tick_comes,
                i11_retry_until_is_set_at_the_first_start,
                i10_no_attempt_starts_after_retry_until,
                waiting_beyond_retry_until_is_death,
                no_lease_after_retry_until_without_a_tick,
            }
            $crate::part_tests! { $harness; cancel:
                a_job_that_does_not_run_is_cancelled_at_once,
                a_running_job_is_asked_and_its_complete_wins,
                any_other_end_of_an_asked_job_is_cancelled,
                force_revokes_the_lease_at_once,
                force_after_a_request_and_without_a_lease,
                cancelling_again_changes_nothing,
                i1_a_cancel_survives_a_crash,
                i10_cancels_have_events,
            }
            $crate::part_tests! { $harness; clock:
                only_a_tick_moves_time_on,
                a_tick_says_when_to_come_again,
                an_earlier_need_calls_for_a_tick,
                a_step_forward_costs_no_lease,
                a_step_back_makes_no_lease_endless,
                a_step_back_makes_no_attempt_endless,
                a_small_drift_is_no_step,
                a_step_forward_makes_delayed_jobs_due,
                a_step_changes_no_wait,
                a_reopened_store_gives_leases_their_full_length,
                a_reopened_store_leaves_room_for_the_lease,
                i4_tokens_grow_over_every_reopening,
                i4_tokens_grow_though_the_clock_was_set_back,
                i4_reopening_twice_at_once_repeats_no_token,
                a_step_back_changes_no_accepted_job,
                no_need_calls_for_no_tick,
            }
            $crate::part_tests! { $harness; dedup:
                i3_a_repeat_gets_the_first_job,
                i3_a_key_is_held_until_its_window_is_over,
                i3_the_default_window_is_seven_days,
                i3_an_unfinished_job_holds_its_key_beyond_the_window,
                i3_a_key_belongs_to_its_queue,
                keys_are_compared_byte_for_byte,
                i3_other_content_is_refused,
                i3_other_content_is_refused_after_a_purge,
                on_mismatch_return_answers_with_the_first_job,
                on_duplicate_reject_refuses_the_repeat,
                i3_free_on_frees_the_key_at_the_named_ends,
                i3_only_the_holder_frees_the_key,
                i3_a_repeat_after_the_purge_says_so,
                a_repeat_inside_one_batch_duplicates_the_earlier_item,
                i3_a_race_of_a_hundred_adds_one_job,
                i3_keys_are_held_over_a_restart,
                a_key_tells_who_holds_it,
                a_key_is_freed_by_hand_with_evidence,
                i10_repeated_evidence_keeps_the_first_and_last_twenty,
            }
            $crate::part_tests! { $harness; delivery:
                each_side_gets_only_its_own,
                a_schedules_job_may_be_delivered,
                i1_a_target_is_handed_out_unchanged,
                a_lane_gives_no_more_than_its_room,
                lanes_take_turns,
                a_line_is_in_order_of_priority,
                pause_and_concurrency_hold_for_both_sides,
                i8_a_group_goes_over_both_sides,
                a_replaced_job_stands_in_another_line,
                i3_a_key_stands_for_one_target,
                the_hard_limit_is_the_deadline_and_a_margin,
                whoever_delivers_hears_of_it,
                a_draining_store_hands_out_no_deliveries,
                i10_no_delivery_starts_after_retry_until,
                each_end_is_told_once,
                i1_an_exchange_is_kept_with_its_attempt,
            }
            $crate::part_tests! { $harness; edit:
                a_waiting_job_can_be_changed,
                an_edit_moves_the_time_both_ways,
                a_new_priority_counts_at_once,
                a_started_job_is_left_alone,
            }
            $crate::part_tests! { $harness; effects:
                i7_a_committed_result_is_replayed_byte_for_byte,
                a_large_result_is_replayed,
                a_mismatch_is_told_first,
                i7_the_next_holder_takes_over_at_once,
                i7_at_most_once_a_doubt_ends_the_job,
                a_cancel_wins_over_a_doubt,
                i7_a_resolved_doubt_is_replayed_or_executed,
                i5_old_tokens_are_refused_with_evidence,
                a_repeated_commit_gets_its_first_answer,
                how_a_release_is_meant_decides_what_follows,
                an_attempt_executes_a_step_once_at_a_time,
                i11_a_forgotten_key_is_never_used_again,
                i11_a_key_forgotten_early_is_warned_about,
                a_standalone_effect_has_its_own_lease,
                i10_a_lapsed_at_most_once_effect_is_indeterminate,
                a_standalone_effect_is_kept_for_its_time_to_live,
                many_effects_are_removed_in_steps,
                i1_effects_survive_a_crash,
                a_reopened_store_gives_effect_leases_their_full_length,
                effects_live_as_long_as_their_job,
                an_unknown_effect_or_job_is_not_found,
                i7_a_race_of_a_hundred_executes_once,
                a_batch_of_effects_answers_each_item,
                effects_are_listed,
            }
            $crate::part_tests! { $harness; events:
                i10_every_transition_has_its_event,
                i10_a_dead_job_tells_its_reason,
                i10_what_happens_beside_transitions_has_events,
                a_reader_goes_on_from_any_cursor,
                events_can_be_resumed_for_a_day,
                a_reader_at_the_end_is_woken,
                i10_late_writes_have_events,
            }
            $crate::part_tests! { $harness; group:
                i8_a_group_runs_one_at_a_time_in_order,
                i8_priority_does_not_reorder_a_group,
                i8_groups_do_not_hold_each_other,
                i8_a_waiting_head_holds_its_group,
                i8_a_waiting_head_is_passed_under_skip,
                i8_skip_passes_no_available_head,
                i8_the_policy_counts_at_once,
                i8_a_dead_or_cancelled_head_lets_the_group_go_on,
                i8_a_dead_head_blocks_until_it_is_deleted,
                i8_a_dead_head_blocks_until_it_is_purged,
                i8_a_dead_head_blocks_until_it_is_run_again,
                i8_whether_a_head_blocks_is_decided_when_it_ends,
                i8_a_completed_head_never_blocks,
                i8_the_order_survives_lost_leases_and_crashes,
            }
            $crate::part_tests! { $harness; lease:
                a_lease_says_all_about_itself,
                lower_priority_first_then_order_of_acceptance,
                a_job_that_came_due_stands_in_line_like_the_others,
                queues_in_the_order_listed_or_in_turn,
                fair_calls_for_one_job_get_to_every_queue,
                no_more_than_asked_for,
                a_reply_stops_before_16_mib_but_not_before_its_first_job,
                checkpoints_count_for_the_size_of_a_reply,
                i4_one_holder_at_a_time,
                i4_tokens_grow_with_every_lease,
                attempts_count_up_and_stay_in_the_history,
                a_lease_ends_with_the_hard_limit,
                i1_a_lease_survives_a_crash,
                a_repeated_poll_gets_what_it_still_holds,
                a_repeated_poll_does_not_get_what_it_lost,
                i5_a_write_past_the_deadline_is_accepted_until_expiry,
                a_lease_that_ran_out_is_lost,
            }
            $crate::part_tests! { $harness; list:
                pages_follow_each_other,
                every_condition_filters,
                an_item_leaves_the_payload_out,
                nothing_is_an_empty_page,
            }
            $crate::part_tests! { $harness; parked:
                an_add_wakes_a_parked_call,
                a_parked_call_is_woken_by_any_of_its_queues,
                a_job_coming_due_wakes_a_parked_call,
                whatever_makes_a_job_leasable_wakes_a_parked_call,
                whatever_clears_the_way_wakes_a_parked_call,
                a_tick_ends_a_wait_that_is_over,
                one_job_wakes_one_call,
                a_batch_is_spread_over_parked_calls,
                a_dropped_call_is_given_nothing,
                an_unclaimed_hand_out_is_released_at_no_cost,
                a_repeated_poll_ends_the_parked_one,
                a_draining_store_hands_out_nothing,
                whoever_waits_for_the_end_hears_of_it,
            }
            $crate::part_tests! { $harness; queue:
                nothing_is_leased_from_a_paused_queue,
                a_setting_makes_the_queue,
                concurrency_bounds_running_jobs,
                a_lower_limit_lets_nothing_new_start,
                settings_are_defaults_for_jobs_that_do_not_say,
                a_change_leaves_the_rest_alone,
                i2_a_queue_with_unfinished_jobs_needs_force,
                an_idle_queue_is_deleted_with_its_settings,
                queues_are_listed_by_name,
                the_oldest_available_job_is_told,
            }
            $crate::part_tests! { $harness; rate:
                no_stretch_of_time_has_more_leases_than_the_rate,
                jobs_say_that_the_rate_is_used_up,
                a_rate_outlives_a_crash,
                room_under_a_rate_wakes_a_parked_call,
                a_changed_rate_counts_what_began_before,
                every_lease_counts_whatever_becomes_of_it,
                a_clock_set_back_costs_one_time_of_the_rate,
                a_deleted_queue_takes_its_rate_with_it,
            }
            $crate::part_tests! { $harness; repeats:
                i6_the_same_end_again_gets_the_first_answer,
                i6_the_first_answer_stays_whatever_happened_since,
                i6_a_dead_end_is_repeated_after_a_retry,
                i6_a_different_end_is_refused,
                i6_a_different_end_leaves_evidence,
                i6_the_first_answer_outlives_the_row,
                i6_nothing_else_is_ok_when_the_row_is_gone,
                i6_the_first_answer_outlives_the_queue,
                i6_an_end_by_the_engine_is_nobodys_first_answer,
                i6_the_other_writes_are_executed_each_time,
            }
            $crate::part_tests! { $harness; replace:
                replace_changes_everything_but_id_key_and_group,
                replace_moves_the_time_both_ways,
                replace_leaves_a_started_job_alone,
                replace_leaves_a_released_job_alone,
                replace_refuses_older_versions,
                max_delay_bounds_a_rolling_delay,
                replace_makes_the_new_content_the_fingerprint,
                i8_a_replaced_job_keeps_its_place_in_its_group,
                i1_a_replace_survives_a_crash,
            }
            $crate::part_tests! { $harness; request:
                a_request_is_answered_from_its_record,
                a_request_identity_is_not_reused_for_another_request,
                a_request_repeated_in_an_atomic_batch_names_its_job,
                a_request_is_remembered_for_a_day,
                i1_a_request_is_remembered_over_a_crash,
                requests_and_keys_do_not_meet,
                a_refused_request_leaves_no_record,
                a_request_remembers_the_job_it_met,
            }
            $crate::part_tests! { $harness; retention:
                i2_finished_jobs_are_kept_and_then_purged,
                retention_of_the_job_of_the_queue_of_the_house,
                a_new_retention_counts_for_finished_jobs,
                i10_unfinished_jobs_are_never_purged,
                i3_a_key_outlives_the_row,
                i2_delete_takes_finished_jobs_only,
                i2_nothing_leaves_by_another_way,
            }
            $crate::part_tests! { $harness; retry:
                a_dead_job_runs_again_with_budgets_renewed,
                a_retry_forgets_the_crash_loop,
                a_cancelled_job_runs_again,
                a_retrying_job_runs_at_once,
                other_states_are_refused,
                i3_a_retry_claims_the_key_again,
                i3_a_taken_key_refuses_the_retry,
                i11_after_retry_until_a_retry_needs_accept_duplicates,
                i8_a_retried_job_goes_to_the_back_of_its_group,
                a_redrive_takes_the_oldest_dead_jobs,
                a_redrive_is_filtered,
                a_redrive_of_an_unknown_queue_is_refused,
                i3_a_redrive_gives_each_key_to_one_job,
                i1_a_retry_survives_a_crash,
                a_retried_job_is_kept_from_its_new_end,
            }
            $crate::part_tests! { $harness; schedule:
                a_tick_adds_the_job_at_its_time,
                ticks_come_when_schedules_are_due,
                i9_one_tick_has_one_job,
                i9_a_crash_loses_no_tick_and_repeats_none,
                i9_a_step_back_repeats_no_tick,
                i9_a_tick_of_a_schedule_made_again_is_the_same,
                i9_no_caller_uses_or_frees_the_key_of_a_tick,
                i9_ticks_outlive_their_queue,
                i10_missed_ticks_are_caught_up_as_asked_and_told,
                t12_overlap_is_met_as_asked,
                t12_ticks_caught_up_together_overlap,
                no_tick_comes_after_the_end,
                a_zones_clock_is_followed,
                a_queues_settings_are_those_of_its_jobs,
                many_due_at_once_are_all_evaluated,
            }
            $crate::part_tests! { $harness; schedules:
                a_pause_is_nobodys_time,
                t11_an_edit_adds_the_old_tick_or_the_new_one,
                the_same_again_changes_nothing,
                run_now_adds_a_job_beside_the_ticks,
                run_now_meets_the_overlap,
                deleting_a_schedule_leaves_its_jobs,
                schedules_are_listed_by_id,
            }
            $crate::part_tests! { $harness; settings:
                versions_count_up,
                another_version_changes_nothing,
                i1_settings_survive_a_crash,
                one_of_two_writers_wins,
            }
            $crate::part_tests! { $harness; settle:
                complete_ends_the_job_with_its_result,
                a_failure_waits_with_its_error,
                i10_a_permanent_failure_makes_the_job_dead,
                a_snoozed_job_comes_back_at_its_time,
                a_released_job_is_available_at_once,
                an_extension_counts_from_now,
                an_extension_may_shorten,
                no_extension_reaches_past_the_hard_limit,
                checkpoint_progress_and_log,
                i1_a_checkpoint_survives_a_crash,
                the_last_log_lines_are_kept,
                a_batch_of_settles_answers_each_item,
                i6_the_first_end_in_a_batch_counts,
                i1_every_end_survives_a_crash,
                i1_an_extension_survives_a_crash,
            }
            $crate::part_tests! { $harness; stale:
                i5_an_old_token_changes_nothing,
                i5_an_old_token_changes_nothing_on_a_dead_or_cancelled_job,
                i5_late_ends_leave_evidence,
                i5_evidence_survives_a_crash,
                i5_a_foreign_token_is_refused_and_noted,
                an_unknown_job_is_not_found,
                i5_a_token_is_old_after_its_own_end,
                i5_a_holder_goes_on_after_a_crash,
                a_late_write_recreates_nothing,
            }
            $crate::part_tests! { $harness; store:
                a_closed_store_says_so,
                attempts_are_counted_by_outcome,
                a_backup_is_made_or_refused,
                a_dropped_add_is_whole_or_not_at_all,
            }
        }
    };
}

/// The tests of one part. Not for use by itself.
#[doc(hidden)]
#[macro_export]
macro_rules! part_tests {
    ($harness:ty; $part:ident: $($case:ident,)*) => {
        mod $part {
            $(
                #[test]
                fn $case() {
                    $crate::run_case::<$harness>(|h| Box::pin($crate::suite::$part::$case(h)));
                }
            )*
        }
    };
}
