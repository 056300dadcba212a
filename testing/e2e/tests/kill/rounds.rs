//! What is done to a server, and what has to be so afterwards, whatever its store is.

use std::time::Duration;

use onefold_e2e::{
    Gate, Habit, Load, Rng, Server, Told, counts, in_full, long, now, seed, sum_of_states, unfinished, until,
};

const PRODUCERS: u64 = 8;
const WORKERS: u64 = 8;
/// Of the workers: those that hold short leases too long.
const SLOPPY: u64 = 2;
/// SIGKILLs of a server that serves.
const KILLS: u64 = 20;
/// SIGKILLs of one that has just been started.
const EARLY_KILLS: u64 = 8;
const STALE: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(120);

/// Kills a server at random under load, also while it starts, until so many writes were acknowledged and it was killed often
/// enough.
pub(crate) fn kill_under_load(mut server: Server, acknowledged: u64) {
    let seed = seed("kill");
    let (gate, told, started) = (Gate::new(), Told::new(), now());
    let load = Load::new(&[server.address()], PATIENCE, &gate, &told, seed);
    gate.set_serving(true);
    let (mut kills, mut early, mut limits) = (0, 0, Vec::new());
    std::thread::scope(|threads| {
        let _at_last = gate.finish_at_last();
        let producers: Vec<_> =
            (0..PRODUCERS).map(|number| threads.spawn(move || load.produce(number, None))).collect();
        let operator = threads.spawn(move || load.operate());
        for number in 0..WORKERS {
            let habit = if number < SLOPPY { Habit::Sloppy } else { Habit::Careful };
            threads.spawn(move || load.work(number, habit));
        }
        let mut random = Rng::new(seed, 1_000);
        let enough = || told.acknowledged() >= acknowledged * long() && told.stale() >= STALE * long();
        while !(enough() && kills >= KILLS * long() && early >= EARLY_KILLS * long()) {
            assert!(
                now() - started < PATIENCE * u32::try_from(long()).unwrap(),
                "the load makes no progress"
            );
            gate.pause(Duration::from_millis(random.within(100..1_500)));
            gate.set_serving(false);
            server.kill();
            kills += 1;
            if random.one_in(3) {
                for _ in 0..random.within(1..4) {
                    server.spawn();
                    gate.pause(Duration::from_millis(random.within(0..12)));
                    server.kill();
                    early += 1;
                }
            }
            server.restart();
            gate.set_serving(true);
        }
        load.stop_producing();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        limits = operator.join().unwrap();
        let mut client = server.client();
        until("all jobs to be finished", PATIENCE, || {
            unfinished(&counts(&mut client, "load")).eq(&0).then_some(())
        });
        gate.finish();
    });
    let finished_after = now() - started;
    server.restart();
    let jobs = in_full(server.address(), "load");
    told.compare(&jobs);
    for (queue, limit) in &limits {
        let set = server.client().get(&format!("/v1/queues/{queue}")).ok();
        assert_eq!(set["concurrency"], *limit, "I1: a setting was lost: {set}");
    }
    let counts = counts(&mut server.client(), "load");
    assert_eq!(counts["accepted"], told.keys(), "I2: accepted is not what producers were told: {counts}");
    assert_eq!(sum_of_states(&counts), told.keys(), "I2: jobs went missing: {counts}");
    eprintln!(
        "kill: {kills} SIGKILLs, and {early} while starting; {} acknowledged writes, {} stale ends, {} jobs, {} \
         repeats, {} dead, {} cancelled; load {finished_after:.1?}, comparison {:.1?}",
        told.acknowledged(),
        told.stale(),
        told.keys(),
        told.duplicates(),
        counts["dead"],
        counts["cancelled"],
        now() - started - finished_after,
    );
    assert_eq!(server.terminate().0.code(), Some(0));
}

/// Lets a server and its clients work in peace.
pub(crate) fn deliver_in_peace(server: &Server) {
    let seed = seed("no faults");
    let (gate, told) = (Gate::new(), Told::new());
    let load = Load::new(&[server.address()], PATIENCE, &gate, &told, seed);
    gate.set_serving(true);
    std::thread::scope(|threads| {
        let _at_last = gate.finish_at_last();
        let producers: Vec<_> =
            (0..PRODUCERS).map(|number| threads.spawn(move || load.produce(number, Some(500)))).collect();
        for number in 0..WORKERS {
            threads.spawn(move || load.work(number, Habit::Completing));
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        let mut client = server.client();
        until("all jobs to be finished", PATIENCE, || {
            unfinished(&counts(&mut client, "load")).eq(&0).then_some(())
        });
        gate.finish();
    });
    let jobs = in_full(server.address(), "load");
    told.compare(&jobs);
    let deliveries: u64 = jobs.iter().map(|job| job["attempts"].as_array().unwrap().len() as u64).sum();
    assert_eq!((told.leases(), deliveries, told.completed()), (told.keys(), told.keys(), told.keys()));
    assert_eq!(told.stale(), 0);
}
