//! Runs the program: starts it on its private address, asks whether it answers, starts it again
//! when it dies, stops it when told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::config::supervise::Supervise;
use crate::error::{Context, Error, Kind, Result};
use crate::front::log;
use crate::front::proxy::{Outgoing, Upstream};
use crate::front::spawn::Spawner;

/// Where a PocketBase says that it is well.
const HEALTH: &str = "/api/health";
/// Pause between two questions while it starts.
const ASK_PAUSE: Duration = Duration::from_millis(25);
/// How long one question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// A program that answers, but not with 200, is there after so long: it may have its reasons.
const ODD_PATIENCE: Duration = Duration::from_secs(5);
/// Waits before it is started again, doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A program that lived so long did not die of its start.
const STABLE: Duration = Duration::from_secs(60);
/// Starts in a row that end in death before any answer, until it is said to be unable to live.
pub const DEATHS_MAX: u32 = 3;
/// Pause between two looks whether a process group is gone.
const GONE_PAUSE: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its command line.
    pub supervise: Supervise,
    /// The `--dir` that it gets.
    pub data: PathBuf,
    /// Where clients reach us, `http://host:port`, for its log.
    pub public: String,
}

/// How the program is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Where it takes requests; `None` while it does not.
    pub address: Option<SocketAddr>,
    /// Its process, which leads a group of its own.
    pub pid: Option<u32>,
    /// What it last answered to the question for its health since it was started.
    pub answered: Option<u16>,
    /// How often in a row it died before it had answered.
    pub deaths: u32,
    /// How it ended last, or why it could not be started.
    pub ended: Option<String>,
}

/// What can be said of a program that was started on new data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It says that it is well.
    Well,
    /// It answers, but with this status: it is up, and its data let it come up.
    Odd(u16),
    /// It did not answer in time.
    Silent,
    /// It dies each time it is started; how it ended.
    Dies(String),
    /// It cannot be started, whatever the data are; why.
    NotStarted(String),
}

/// The one who runs it. Dropped, it kills the program.
#[derive(Debug)]
pub struct Supervisor {
    orders: mpsc::UnboundedSender<Order>,
    status: Arc<watch::Sender<Status>>,
    upstream: Upstream,
}

enum Order {
    Start,
    Stop(oneshot::Sender<()>),
}

impl Supervisor {
    /// Prepares to run `program`; nothing is started yet.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn new(program: Program, runtime: &Handle) -> Result<Self> {
        let (orders, received) = mpsc::unbounded_channel();
        let status = Arc::new(watch::Sender::new(Status::default()));
        let upstream = Upstream::new(runtime.clone());
        let spawner = Spawner::start(runtime.clone())?;
        let worker = Worker {
            program,
            spawner,
            upstream: upstream.clone(),
            orders: received,
            told: status.clone(),
        };
        runtime.spawn(worker.run());
        Ok(Self { orders, status, upstream })
    }

    /// Starts the program and keeps it running.
    pub fn start(&self) {
        // What is known of an earlier run says nothing of this one.
        self.status.send_replace(Status::default());
        // The worker lives as long as we do.
        let _ = self.orders.send(Order::Start);
    }

    /// Stops the program and everything it started; returns when they are gone.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }

    /// How the program is, and when that changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The client that speaks to it.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What can be said of the program after its start, at the latest after `limit`.
    pub async fn verdict(&self, limit: Duration) -> Verdict {
        let mut status = self.status();
        let decided = status.wait_for(|status| {
            let gone = status.pid.is_none() && status.ended.is_some();
            status.address.is_some() || (gone && !(1..DEATHS_MAX).contains(&status.deaths))
        });
        let _ = timeout(limit, decided).await;
        let status = self.status.borrow().clone();
        match (status.answered, status.deaths, status.ended) {
            (Some(200), ..) => Verdict::Well,
            (Some(other), ..) => Verdict::Odd(other),
            (None, 1.., Some(ended)) => Verdict::Dies(ended),
            (None, 0, Some(why)) => Verdict::NotStarted(why),
            (None, ..) => Verdict::Silent,
        }
    }
}

struct Worker {
    program: Program,
    spawner: Spawner,
    upstream: Upstream,
    orders: mpsc::UnboundedReceiver<Order>,
    told: Arc<watch::Sender<Status>>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            let done = match order {
                Order::Start => match self.keep_running().await {
                    Some(done) => done,
                    None => return,
                },
                Order::Stop(done) => done,
            };
            let _ = done.send(());
        }
    }

    /// Until a stop is ordered (`None`: until nobody can order anything any more).
    async fn keep_running(&mut self) -> Option<oneshot::Sender<()>> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            match self.launch().await {
                Ok((mut child, group, address)) => {
                    let stop = tokio::select! {
                        ended = attend(&mut child, &self.upstream, &self.told, address) => {
                            self.note_death(&ended);
                            None
                        }
                        stop = next_stop(&mut self.orders) => Some(stop),
                    };
                    self.told.send_modify(|status| status.address = None);
                    end_group(&mut child, group, self.program.supervise.stop_timeout).await;
                    self.told.send_modify(|status| status.pid = None);
                    if let Some(stop) = stop {
                        tracing::info!(pid = group.as_raw_nonzero().get(), "stopped the program");
                        return stop;
                    }
                }
                Err(error) => {
                    tracing::error!(error = error.full(), "the program cannot be started");
                    self.told.send_modify(|status| status.ended = Some(error.full()));
                }
            }
            if began.elapsed() >= STABLE {
                backoff = BACKOFF_MIN;
            }
            tokio::select! {
                () = sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
                stop = next_stop(&mut self.orders) => return stop,
            }
        }
    }

    async fn launch(&self) -> Result<(Child, Pid, SocketAddr)> {
        let Program { supervise, data, public } = &self.program;
        let address = match supervise.http {
            Some(address) => address,
            None => free_address()?,
        };
        let mut command = Command::new(&supervise.program);
        command
            .args(&supervise.arguments)
            .arg(format!("--http={address}"))
            .arg("--dir")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.spawner.spawn(command).await?.map_err(|error| {
            let message = format!("cannot run {}", supervise.program.display());
            Error::new(Kind::Unavailable, message)
                .because(error)
                .hint("is it there, and may it be executed?")
        })?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let group = group.ok_or_else(|| Error::internal("a new process has no number"))?;
        let private = format!("http://{address}");
        if let Some(output) = child.stdout.take() {
            tokio::spawn(log::follow(output, private.clone(), public.clone()));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(log::follow(output, private, public.clone()));
        }
        self.told.send_modify(|status| {
            status.pid = child.id();
            status.answered = None;
        });
        tracing::info!(pid = group.as_raw_nonzero().get(), %address, "started the program");
        Ok((child, group, address))
    }

    fn note_death(&self, ended: &std::io::Result<ExitStatus>) {
        let ended = match ended {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(ended, "the program ended by itself, it is started again");
        self.told.send_modify(|status| {
            status.deaths = if status.answered.is_none() { status.deaths + 1 } else { 0 };
            status.ended = Some(ended);
        });
    }
}

/// Asks until it answers, then only waits for its end.
async fn attend(
    child: &mut Child,
    upstream: &Upstream,
    told: &watch::Sender<Status>,
    address: SocketAddr,
) -> std::io::Result<ExitStatus> {
    tokio::select! {
        biased;
        ended = child.wait() => return ended,
        () = await_answer(upstream, told, address) => {}
    }
    told.send_modify(|status| {
        status.address = Some(address);
        status.deaths = 0;
    });
    child.wait().await
}

async fn await_answer(upstream: &Upstream, told: &watch::Sender<Status>, address: SocketAddr) {
    let mut odd_since = None;
    loop {
        if let Some(status) = ask(upstream, address).await {
            told.send_modify(|told| told.answered = Some(status.as_u16()));
            let since = *odd_since.get_or_insert_with(Instant::now);
            if status == StatusCode::OK {
                return;
            }
            if since.elapsed() >= ODD_PATIENCE {
                tracing::warn!(%status, "the program answers, but does not say that it is well");
                return;
            }
        }
        sleep(ASK_PAUSE).await;
    }
}

async fn ask(upstream: &Upstream, address: SocketAddr) -> Option<StatusCode> {
    let request = Request::get(HEALTH).header("host", address.to_string());
    let request = request.body(Outgoing::empty()).ok()?;
    let answer = timeout(ASK_TIMEOUT, upstream.send(address, request)).await.ok()?.ok()?;
    Some(answer.status())
}

/// The next order to stop; that it should start is known. `None` when nobody orders any more.
async fn next_stop(orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<oneshot::Sender<()>> {
    loop {
        match orders.recv().await {
            Some(Order::Start) => {}
            Some(Order::Stop(done)) => return Some(done),
            None => return None,
        }
    }
}

/// Ends the program and whatever it started: a wrapper may be gone before what it wraps.
async fn end_group(child: &mut Child, group: Pid, patience: Duration) {
    let end = Instant::now() + patience;
    let mut signal = Signal::TERM;
    let _ = kill_process_group(group, signal);
    loop {
        // Reaped, or its number would stay and look like a member of the group.
        let reaped = child.try_wait().is_ok_and(|ended| ended.is_some());
        // As the first process of a container we inherit what it leaves: nobody else reaps it.
        while reaped && matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
        if reaped && test_kill_process_group(group) == Err(Errno::SRCH) {
            return;
        }
        if signal == Signal::TERM && Instant::now() >= end {
            tracing::warn!(?patience, "the program did not end in time and is killed");
            signal = Signal::KILL;
            let _ = kill_process_group(group, signal);
        } else if Instant::now() >= end + patience {
            // Only a process stuck in the kernel survives that.
            tracing::error!("a process of the program cannot be ended");
            return;
        }
        sleep(GONE_PAUSE).await;
    }
}

/// Somebody else may take the port before the program does; it dies then, and gets another.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("no port is free for the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_inherits_the_program_s_children_does_not_take_the_dead_for_alive() {
        // As process 1 of a container has it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
        let mut command = tokio::process::Command::new("sh");
        let mut child =
            command.args(["-c", "sleep 60 & sleep 60"]).process_group(0).spawn().expect("a shell");
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("a number");
        sleep(Duration::from_millis(200)).await;
        let (began, patience) = (Instant::now(), Duration::from_secs(5));
        end_group(&mut child, group, patience).await;
        assert!(began.elapsed() < patience, "{:?}", began.elapsed());
    }
}
