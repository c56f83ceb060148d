//! The running parts of a server: starts them, says which one ended, ends them in order.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::child::Part;
use crate::ending::Ending;

/// A controller manager that ends sooner than this had wrong arguments; later it lost its lease.
const SETTLED: Duration = Duration::from_secs(10);

struct Running {
    name: &'static str,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// One part that ended by itself.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    status: String,
    after: Duration,
}

impl Ended {
    /// What k3s does when that part ends: the whole process ends.
    pub(crate) fn ending(&self) -> Ending {
        let elects = matches!(self.name, "kube-controller-manager" | "kube-scheduler");
        if elects && self.after > SETTLED {
            return Ending::LeaseLost(self.name);
        }
        Ending::Shutdown(format!("{} exited: {}", self.name, self.status))
    }
}

/// All parts.
pub(crate) struct Parts {
    running: RefCell<Vec<Running>>,
    ended: mpsc::UnboundedSender<Ended>,
}

/// How long kube-apiserver and the others may take to end, and how long etcd may: it hands leadership over first.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_ETCD: Duration = Duration::from_secs(6);

impl Parts {
    /// No parts yet; the receiver tells of each that ends by itself.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (ended, receiver) = mpsc::unbounded_channel();
        (
            Self {
                running: RefCell::new(Vec::new()),
                ended,
            },
            receiver,
        )
    }

    /// Looks after a started part.
    pub(crate) fn add(&self, mut part: Part) {
        let (stop, stopped) = oneshot::channel();
        let (ended, name, started) = (self.ended.clone(), part.name, Instant::now());
        let task = tokio::task::spawn_local(async move {
            tokio::select! {
                status = part.ended() => {
                    // Nobody listens when the process is ending anyway.
                    drop(ended.send(Ended { name, status: status.to_string(), after: started.elapsed() }));
                }
                _ = stopped => part.stop(if name == "etcd" { PATIENCE_ETCD } else { PATIENCE }).await,
            }
        });
        self.running.borrow_mut().push(Running { name, stop, task });
    }

    /// Ends the part of that name at once, if it runs.
    pub(crate) async fn stop_one(&self, name: &str) {
        let found = {
            let mut running = self.running.borrow_mut();
            running
                .iter()
                .position(|one| one.name == name)
                .map(|position| running.remove(position))
        };
        if let Some(found) = found {
            let _ = found.stop.send(());
            drop(found.task.await);
        }
    }

    /// Ends all parts: etcd last, so that the others can still say goodbye.
    pub(crate) async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.borrow_mut());
        let (etcd, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|running| running.name == "etcd");
        for group in [others, etcd] {
            let tasks: Vec<_> = group
                .into_iter()
                .map(|running| {
                    let _ = running.stop.send(());
                    running.task
                })
                .collect();
            for task in tasks {
                drop(task.await);
            }
        }
    }
}
