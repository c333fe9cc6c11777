//! Who runs what, and on which thread.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, ThreadId};

use super::*;

/// Only a failure takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn executor() -> (tokio::runtime::Runtime, Executor) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let executor = Executor::start(runtime.handle().clone()).unwrap();
    (runtime, executor)
}

/// Blocks the thread until the other end is dropped.
fn block_on(gate: &Receiver<()>) {
    assert_eq!(
        gate.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn tasks_run_on_one_thread_as_long_as_none_blocks() {
    let (_runtime, executor) = executor();
    let (tell, told) = channel();
    // A machine with other work may make any turn a long one, so not each time.
    let is_same = |_| {
        for _ in 0..2 {
            let tell = tell.clone();
            executor.spawner().spawn_foreign(async move {
                tell.send(thread::current().id()).unwrap();
            });
        }
        let threads: [ThreadId; 2] = [(); 2].map(|()| told.recv_timeout(PATIENCE).unwrap());
        threads[0] == threads[1]
    };
    assert!((0..1000).any(is_same));
}

#[test]
fn many_tasks_that_block_hold_up_no_others() {
    let (_runtime, executor) = executor();
    let (begun, begins) = channel();
    let (mut gates, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (gate, wait) = channel();
        gates.push(gate);
        let begun = begun.clone();
        executor.spawner().spawn_foreign(async move {
            begun.send(thread::current().id()).unwrap();
            block_on(&wait);
        });
        threads.push(begins.recv_timeout(PATIENCE).unwrap());
    }
    // All of them block, each its own thread.
    let count = threads.len();
    threads.sort_by_key(|id| format!("{id:?}"));
    threads.dedup();
    assert_eq!(threads.len(), count);
    let (tell, told) = channel();
    let reactor = executor.reactor();
    executor.spawner().spawn(async move {
        // Timers and events as well.
        reactor.sleep(Duration::from_millis(1)).await;
        tell.send(()).unwrap();
    });
    told.recv_timeout(PATIENCE).unwrap();
    drop(gates);
}

#[test]
fn a_task_that_blocked_once_has_its_own_threads_from_then_on() {
    // On a machine with other work any thread may have led and lead no more.
    let differs = |_| {
        let (_runtime, executor) = executor();
        let (tell, told) = channel();
        let (gate, wait) = channel();
        let (again, mut woken) = tokio::sync::mpsc::channel::<()>(1);
        executor.spawner().spawn_foreign(async move {
            tell.send(thread::current().id()).unwrap();
            block_on(&wait);
            woken.recv().await;
            tell.send(thread::current().id()).unwrap();
        });
        let first = told.recv_timeout(PATIENCE).unwrap();
        // Another thread leads once this has run.
        let leader = leader(&executor);
        assert_ne!(leader, first);
        drop(gate);
        again.blocking_send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap() != leader
    };
    assert!((0..10).any(differs));
}

fn leader(executor: &Executor) -> ThreadId {
    let (tell, told) = channel();
    executor.spawner().spawn(async move {
        tell.send(thread::current().id()).unwrap();
    });
    told.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn where_turns_are_usually_long_tasks_begin_side_by_side() {
    let (_runtime, executor) = executor();
    let first_turn = |work: Duration| {
        let (tell, told) = channel();
        executor.spawner().spawn_foreign(async move {
            let began = Instant::now();
            while began.elapsed() < work {
                thread::yield_now();
            }
            tell.send(thread::current().id()).unwrap();
        });
        told.recv_timeout(PATIENCE).unwrap()
    };
    // Shorter than what the watch sees.
    let moved = (0..10_000).find(|_| first_turn(LONG) != leader(&executor));
    assert!(moved.is_some());
    while !executor.0.is_usually_slow() {
        first_turn(LONG);
    }
    let returned = (0..10_000).find(|_| first_turn(Duration::ZERO) == leader(&executor));
    assert!(returned.is_some());
}

#[test]
fn a_panic_ends_its_task_only() {
    let (_runtime, executor) = executor();
    let (tell, told) = channel::<()>();
    executor.spawner().spawn_foreign(async move {
        let _tell = tell;
        panic!("as expected");
    });
    assert_eq!(
        told.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    let (tell, told) = channel();
    executor
        .spawner()
        .spawn(async move { tell.send(()).unwrap() });
    told.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn dropping_it_drops_the_tasks_and_ends_the_threads() {
    let (_runtime, executor) = executor();
    let (tell, told) = channel::<()>();
    let (spawner, reactor) = (executor.spawner(), executor.reactor());
    let waiting = tell.clone();
    spawner.spawn(async move {
        reactor.sleep(PATIENCE * 60).await;
        drop(waiting);
    });
    let shared = Arc::downgrade(&executor.0);
    drop(executor);
    // Too late.
    spawner.spawn(async move { tell.send(()).unwrap() });
    assert_eq!(
        told.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    while shared.strong_count() > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_task_that_is_in_its_turn_meanwhile_is_dropped_as_soon_as_it_waits() {
    use crate::server::reactor::{Direction, Watched};
    for (is_foreign, waits_for_a_socket) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let (_runtime, executor) = executor();
        let (begun, begins) = channel();
        let (gate, wait) = channel::<()>();
        let (held, is_gone) = channel::<()>();
        let reactor = executor.reactor();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let task = async move {
            let _held = held;
            let socket = Watched::new(socket, false, &reactor);
            begun.send(()).unwrap();
            block_on(&wait);
            if !waits_for_a_socket {
                return reactor.sleep(100 * PATIENCE).await;
            }
            let read = |socket: &std::os::unix::net::UnixStream| {
                std::io::Read::read(&mut &*socket, &mut [0]).map(|read| (read, false))
            };
            let _nothing =
                std::future::poll_fn(|context| socket.poll(context, Direction::Read, read)).await;
        };
        if is_foreign {
            executor.spawner().spawn_foreign(task);
        } else {
            executor.spawner().spawn(task);
        }
        begins.recv_timeout(PATIENCE).unwrap();
        drop(executor);
        drop(gate);
        assert_eq!(
            is_gone.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected),
            "foreign: {is_foreign}, socket: {waits_for_a_socket}"
        );
    }
}

#[test]
fn work_from_other_threads_is_done_at_once() {
    let (_runtime, executor) = executor();
    for _ in 0..1000 {
        let (tell, told) = channel();
        // Whether the leader sleeps or is about to.
        executor
            .spawner()
            .spawn(async move { tell.send(()).unwrap() });
        told.recv_timeout(PATIENCE).unwrap();
    }
}
