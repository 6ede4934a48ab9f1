//! The times at which fences were raised, by the fence clock.

use redis::{Cmd, RedisError, Value};

use crate::fence::{FenceId, Stamp};
use crate::storage::redis::names::fence;

/// The fence clock, and when some fences were raised.
pub(crate) struct Times {
    pub(crate) clock: Stamp,
    asked: Vec<FenceId>,
    /// As many; zero for those that never were.
    raised: Vec<u64>,
}

/// A question for the times of some fences, each of them once.
pub(crate) struct Question(Vec<FenceId>);

impl Question {
    pub(crate) fn new(mut fences: Vec<FenceId>) -> Self {
        fences.sort_unstable();
        fences.dedup();
        Self(fences)
    }

    /// The command to the server that has the fences under this name.
    pub(crate) fn command(&self, name: &str) -> Cmd {
        // Room for all of it at once: each lookup writes one.
        let mut command = Cmd::with_capacity(3 + self.0.len(), 16 + name.len() + 32 * self.0.len());
        command.arg("ZMSCORE").arg(name).arg("clock");
        for id in &self.0 {
            command.arg(fence(*id).as_slice());
        }
        command
    }

    /// What the answer says: nothing where there is no clock.
    pub(crate) fn read(self, answer: Value) -> Result<Option<Times>, NoTimes> {
        let answer = answer.extract_error().map_err(NoTimes::Error)?;
        let times: Vec<Option<f64>> =
            redis::from_redis_value(answer).map_err(|error| NoTimes::Error(error.into()))?;
        if times.len() != self.0.len() + 1 {
            return Err(NoTimes::OutOfStep);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole until the year 2255
        let mut times = times.into_iter().map(|time| time.map_or(0, |time| time as u64));
        let clock = times.next().filter(|clock| *clock > 0);
        Ok(clock.map(|clock| Times { clock: Stamp(clock), asked: self.0, raised: times.collect() }))
    }
}

/// An answer that says no times.
pub(crate) enum NoTimes {
    Error(RedisError),
    /// It answers another question.
    OutOfStep,
}

/// What fences say of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Stands,
    Dropped,
    /// One of its fences was not asked for.
    Unknown,
}

impl Times {
    /// Whether none of these fences was raised after `stamp`.
    pub(crate) fn standing<'a>(
        &self,
        stamp: Stamp,
        fences: impl IntoIterator<Item = &'a FenceId>,
    ) -> Standing {
        let mut standing = Standing::Stands;
        for fence in fences {
            let at = self.asked.binary_search(fence).ok().and_then(|at| self.raised.get(at));
            match at {
                Some(raised) if *raised > stamp.0 => return Standing::Dropped,
                Some(_) => {}
                None => standing = Standing::Unknown,
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_that_was_not_asked_for_is_no_consent() {
        let [one, other, third] = [1, 2, 3].map(|id| FenceId([id; 16]));
        let answer = || {
            let times: [&[u8]; 2] = [b"70", b"50"];
            let mut times: Vec<Value> = times.map(|time| Value::BulkString(time.to_vec())).into();
            times.push(Value::Nil);
            Value::Array(times)
        };
        let Ok(Some(times)) = Question::new(vec![other, one, other]).read(answer()) else {
            panic!("no times")
        };
        assert_eq!(times.clock, Stamp(70));
        assert_eq!(times.standing(Stamp(50), [&one, &other]), Standing::Stands);
        assert_eq!(times.standing(Stamp(49), [&other, &one]), Standing::Dropped);
        assert_eq!(times.standing(Stamp(50), [&one, &third]), Standing::Unknown);
        assert_eq!(times.standing(Stamp(49), [&third, &one]), Standing::Dropped);
        // Of another length it answers another question; without a clock there are no times.
        assert!(matches!(Question::new(vec![one]).read(answer()), Err(NoTimes::OutOfStep)));
        assert!(matches!(Question::new(vec![]).read(Value::Array(vec![Value::Nil])), Ok(None)));
    }
}
