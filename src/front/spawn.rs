//! Starts child processes that die with us, from one thread that lives as long as we do: the
//! kernel tells a child of the death of the *thread* that made it.

#![expect(unsafe_code, reason = "what runs between fork and exec has no safe form")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command as Plain;
use std::sync::mpsc;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};

/// The thread. When it is dropped, its children are told to end.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    orders: mpsc::Sender<(Command, oneshot::Sender<io::Result<Child>>)>,
}

impl Spawner {
    /// Starts the thread; its children belong to `runtime`.
    pub(super) fn start(runtime: Handle) -> Result<Self> {
        let (orders, received) = mpsc::channel::<(Command, oneshot::Sender<io::Result<Child>>)>();
        std::thread::Builder::new()
            .name("children".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                for (mut command, reply) in received {
                    // Whoever asked may be gone; the child is dropped, and killed by that.
                    let _ = reply.send(command.spawn());
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { orders })
    }

    /// Starts `command` in a process group of its own; it gets a SIGTERM when we die.
    pub(super) async fn spawn(&self, mut command: Plain) -> Result<io::Result<Child>> {
        command.process_group(0);
        die_with_us(&mut command);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let (reply, answer) = oneshot::channel();
        let gone = || Error::internal("the thread for child processes is gone");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn die_with_us(command: &mut Plain) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // We may have died before the question.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes
    // two system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}
