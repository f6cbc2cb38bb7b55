//! What becomes of a call to the store on its way there and back.
//!
//! The store is another machine: a call that was sent takes effect there whether or not its caller
//! still waits, lives or stands still, and it may do so late.

use std::{future::Future, time::Duration};

use futures_util::future::BoxFuture;
use rand::RngExt;
use tidings::{Result, StoreError};
use tokio::{sync::oneshot, time::sleep};

use crate::{history::What, plan::ms, world::World};

/// A process, as far as it calls the store.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) world: World,
    pub(crate) process: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    before: Duration,
    after: Duration,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Fail,
    Conflict,
    LoseAnswer,
    Hang,
}

/// What was sent and not answered is logged when its caller gives up.
struct Sent<'c> {
    caller: &'c Caller,
    operation: &'static str,
    answered: bool,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let mut state = self.caller.world.lock();
            let process = self.caller.process;
            state.log(Some(process), What::GivenUp(self.operation));
            state.disturb(process, Duration::ZERO, "a call that was given up");
        }
    }
}

impl Caller {
    /// Makes a call in a session.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> BoxFuture<'static, Result<T>> + Send,
    ) -> Result<T> {
        let fate = self.fate(operation);
        let mut sent = self.send(operation);
        let result = if fate.before.is_zero() && fate.after.is_zero() {
            self.carry_out(operation, fate.fault, call()).await
        } else {
            let (sender, receiver) = oneshot::channel();
            let (server, call) = (self.clone(), call());
            // Not a task of the process.
            tokio::spawn(async move {
                sleep_if(fate.before).await;
                let answer = server.carry_out(operation, fate.fault, call).await;
                sleep_if(fate.after).await;
                drop(sender.send(answer));
            });
            match receiver.await {
                Ok(answer) => answer,
                Err(_) => Err(unavailable(operation)),
            }
        };
        sent.answered(&result);
        result
    }

    /// Makes a call on a connection that is bound to its caller: it ends with it.
    pub(crate) async fn call_bound<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let fate = self.fate(operation);
        let mut sent = self.send(operation);
        sleep_if(fate.before).await;
        let result = self.carry_out(operation, fate.fault, call).await;
        sleep_if(fate.after).await;
        sent.answered(&result);
        result
    }

    async fn carry_out<T>(
        &self,
        operation: &'static str,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if self.world.lock().outages > 0 {
            return Err(unavailable(operation));
        }
        match fault {
            None => call.await,
            Some(Fault::Fail) => Err(unavailable(operation)),
            Some(Fault::Conflict) => Err(StoreError::Conflict {
                operation,
                source: None,
            }),
            Some(Fault::LoseAnswer) => call.await.and(Err(unavailable(operation))),
            Some(Fault::Hang) => {
                // Until the server notices that the connection is gone.
                let lease = self.world.lock().lease;
                sleep(lease).await;
                Err(unavailable(operation))
            }
        }
    }

    fn send(&self, operation: &'static str) -> Sent<'_> {
        let mut state = self.world.lock();
        state.log(Some(self.process), What::Sent(operation));
        Sent {
            caller: self,
            operation,
            answered: false,
        }
    }

    fn fate(&self, operation: &'static str) -> Fate {
        let mut state = self.world.lock();
        let (faults, lease) = (state.faults, state.lease);
        let rng = &mut state.rng;
        let mut fate = Fate::default();
        if !faults.usual_latency.is_zero() {
            let most = u64::try_from(faults.usual_latency.as_millis()).unwrap_or(u64::MAX);
            fate.before = ms(rng.random_range(0..=most));
            fate.after = ms(rng.random_range(0..=most));
        }
        let mut disturbed = None;
        let slow = if operation == "renew" {
            faults.slow_renewal
        } else {
            faults.slow
        };
        if slow > 0.0 && rng.random_bool(slow) {
            // Of which a part passes before the call takes effect, and a part after.
            let most = if operation == "renew" {
                lease.mul_f64(1.5)
            } else {
                lease / 2
            };
            let all = most.mul_f64(rng.random_range(0.0..1.0));
            let before = rng.random_range(0.0..1.0);
            fate.before += all.mul_f64(before);
            fate.after += all.mul_f64(1.0 - before);
            disturbed = Some("a slow call");
        }
        let draw: f64 = rng.random();
        let mut sum = 0.0;
        for (rate, fault, why) in [
            (faults.fail, Fault::Fail, "a call that failed"),
            (faults.conflict, Fault::Conflict, "a conflict"),
            (faults.lose_answer, Fault::LoseAnswer, "a lost answer"),
            (faults.hang, Fault::Hang, "a call that hung"),
        ] {
            if draw >= sum && draw < sum + rate {
                // What has no transaction cannot lose against another.
                fate.fault = Some(fault);
                disturbed = Some(why);
            }
            sum += rate;
        }
        if let Some(why) = disturbed {
            let hangs = matches!(fate.fault, Some(Fault::Hang));
            let hanging = if hangs { lease } else { Duration::ZERO };
            state.disturb(self.process, fate.before + hanging + fate.after, why);
            state.count(why);
        }
        fate
    }
}

impl Sent<'_> {
    fn answered<T>(&mut self, result: &Result<T>) {
        self.answered = true;
        let answer = match result {
            Ok(_) => Ok(()),
            Err(StoreError::Unavailable { .. }) => Err("unavailable"),
            Err(StoreError::Conflict { .. }) => Err("conflict"),
            Err(StoreError::TimedOut { .. }) => Err("timed out"),
            Err(_) => Err("refused"),
        };
        let mut state = self.caller.world.lock();
        if let Err(why @ ("conflict" | "timed out")) = answer {
            // By the locks of others.
            state.disturb(self.caller.process, Duration::ZERO, why);
        }
        let what = What::Answered(self.operation, answer);
        state.log(Some(self.caller.process), what);
    }
}

async fn sleep_if(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn unavailable(operation: &'static str) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: None,
    }
}
