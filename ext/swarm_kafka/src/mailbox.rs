//! What a producer's own thread has to tell, until somebody takes it.
//!
//! It outlives the handle: the last delivery reports come while the handle is being closed, when nobody is let in any
//! more, and a producer that rested goes on telling with its next handle.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swarm_core::os::wake::Wake;

use crate::delivery::Slot;
use crate::error::KafkaError;
use crate::lines::{Line, Lines};
use crate::queue::wait_readable;

/// A message that has its answer.
pub struct Answered {
    /// Where the answer stands.
    pub slot: Arc<Slot>,
    /// The message's topic.
    pub topic: Arc<str>,
}

/// Something to be told.
pub enum News {
    /// These messages have their answers.
    Answered(Vec<Answered>),
    /// An error of the client as a whole.
    Error(KafkaError),
    /// Statistics, as JSON, and how many older ones they have taken the place of, since nobody had heard of those.
    Statistics(String, u64),
    /// A new OAUTHBEARER token is wanted, for this configuration.
    Token(String),
    /// Log lines.
    Lines(Vec<Line>),
}

/// What is told to whom asks for it.
pub mod wants {
    /// Answers to messages.
    pub const ANSWERS: u8 = 1;
    /// Errors.
    pub const ERRORS: u8 = 2;
    /// Statistics.
    pub const STATISTICS: u8 = 8;
    /// Log lines.
    pub const LINES: u8 = 16;
}

/// Log lines come from librdkafka's threads, which wake nobody.
const LOOK_FOR_LINES: Duration = Duration::from_millis(300);

/// The mailbox of one producer.
pub struct Mailbox {
    news: Mutex<VecDeque<News>>,
    /// The latest error that lasts and that nobody wanted to hear of so far.
    unheard: Mutex<Option<KafkaError>>,
    filled: Wake,
    wants: AtomicU8,
    ended: AtomicBool,
    lines: Arc<Lines>,
    /// Answers that have come and that nobody was told of, or is being told of just now.
    untold: AtomicUsize,
    /// How many of those [`Mailbox::take`] has given last.
    being_told: AtomicUsize,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> rustix::io::Result<Self> {
        Ok(Self {
            news: Mutex::default(),
            unheard: Mutex::default(),
            filled: Wake::new()?,
            wants: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            lines: Arc::default(),
            untold: AtomicUsize::new(0),
            being_told: AtomicUsize::new(0),
        })
    }

    fn news(&self) -> MutexGuard<'_, VecDeque<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unheard(&self) -> MutexGuard<'_, Option<KafkaError>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be told from now on: a sum of [`wants`].
    pub fn listen(&self, wants: u8) {
        let mut unheard = self.unheard();
        self.wants.store(wants, Ordering::Relaxed);
        if self.wants(wants::ERRORS) {
            if let Some(error) = unheard.take() {
                self.put(News::Error(error));
            }
        }
        drop(unheard);
        self.lines.want(wants & wants::LINES != 0);
    }

    pub(crate) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    pub(crate) fn wants(&self, what: u8) -> bool {
        self.wants.load(Ordering::Relaxed) & what != 0
    }

    pub(crate) fn put(&self, news: News) {
        if let News::Answered(answered) = &news {
            self.untold.fetch_add(answered.len(), Ordering::Relaxed);
        }
        let mut list = self.news();
        match (list.back_mut(), news) {
            // Who is slow gets more at a time.
            (Some(News::Answered(before)), News::Answered(more)) => before.extend(more),
            // And only the newest statistics, at the place of the oldest.
            (_, News::Statistics(json, missed)) => {
                let waiting = list.iter_mut().find_map(|news| match news {
                    News::Statistics(json, missed) => Some((json, missed)),
                    _ => None,
                });
                match waiting {
                    Some((older, before)) => {
                        *older = json;
                        *before += missed + 1;
                    }
                    None => list.push_back(News::Statistics(json, missed)),
                }
            }
            (_, news) => list.push_back(news),
        }
        drop(list);
        self.filled.wake();
    }

    /// Tells of an error, or keeps it for who begins to listen: one that lasts is not told again for a while.
    pub(crate) fn put_error(&self, error: KafkaError) {
        let mut unheard = self.unheard();
        if self.wants(wants::ERRORS) {
            self.put(News::Error(error));
        } else if error.lasts() {
            *unheard = Some(error);
        }
    }

    /// Nothing more comes; what is there is still to be taken.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.filled.wake();
    }

    /// Messages that have their answer, of which nobody has been told to the end.
    pub fn untold(&self) -> usize {
        self.untold.load(Ordering::Relaxed)
    }

    /// The next news; waits for it until `wake` is woken from elsewhere. `Err` when nothing more comes. One thread takes,
    /// and comes again when it has told what it got.
    pub fn take(&self, wake: &Wake) -> Result<Option<News>, Ended> {
        self.untold.fetch_sub(self.being_told.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        loop {
            self.filled.clear();
            let ended = self.ended.load(Ordering::Acquire);
            if let Some(news) = self.news().pop_front() {
                if let News::Answered(answered) = &news {
                    self.being_told.store(answered.len(), Ordering::Relaxed);
                }
                return Ok(Some(news));
            }
            let lines = self.lines.take();
            if !lines.is_empty() {
                return Ok(Some(News::Lines(lines)));
            }
            if ended {
                return Err(Ended);
            }
            let until = self.wants(wants::LINES).then(|| Instant::now() + LOOK_FOR_LINES);
            if wait_readable(self.filled.as_fd(), wake, until) == crate::queue::Waited::Woken {
                return Ok(None);
            }
        }
    }
}

/// Nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::code;

    fn answered(count: usize) -> News {
        News::Answered((0..count).map(|_| Answered { slot: Arc::default(), topic: "t".into() }).collect())
    }

    #[test]
    fn answers_that_nobody_has_taken_are_told_together_and_all_before_the_end() {
        let (mailbox, wake) = (Mailbox::new().unwrap(), Wake::new().unwrap());
        mailbox.put(answered(2));
        mailbox.put(answered(3));
        mailbox.put(News::Statistics("{}".into(), 0));
        mailbox.put(answered(1));
        mailbox.end();
        let mut told = vec![(0, mailbox.untold())];
        while let Ok(news) = mailbox.take(&wake) {
            let count = match news {
                Some(News::Answered(some)) => some.len(),
                _ => 0,
            };
            told.push((count, mailbox.untold()));
        }
        assert_eq!(told, [(0, 6), (5, 6), (0, 1), (1, 1)]);
        assert_eq!(mailbox.untold(), 0);
    }

    #[test]
    fn of_statistics_that_nobody_has_taken_only_the_newest_stay_with_the_number_of_the_others() {
        let (mailbox, wake) = (Mailbox::new().unwrap(), Wake::new().unwrap());
        let told = || match mailbox.take(&wake) {
            Ok(Some(News::Statistics(json, missed))) => Some((json, missed)),
            _ => None,
        };
        for number in 0..5 {
            mailbox.put(News::Statistics(number.to_string(), 0));
            mailbox.put(answered(1));
        }
        assert_eq!(told(), Some(("4".into(), 4)));
        assert!(matches!(mailbox.take(&wake), Ok(Some(News::Answered(all))) if all.len() == 5));
        mailbox.put(News::Statistics("5".into(), 0));
        assert_eq!(told(), Some(("5".into(), 0)));
    }

    #[test]
    fn an_error_that_lasts_waits_for_who_listens_later_and_others_do_not() {
        let (mailbox, wake) = (Mailbox::new().unwrap(), Wake::new().unwrap());
        mailbox.put_error(KafkaError::of(code::AUTHENTICATION));
        mailbox.put_error(KafkaError::of(code::TRANSPORT));
        mailbox.listen(wants::STATISTICS);
        mailbox.listen(wants::STATISTICS | wants::ERRORS);
        mailbox.listen(wants::ERRORS);
        mailbox.put_error(KafkaError::of(code::TRANSPORT));
        mailbox.end();
        let mut told = Vec::new();
        while let Ok(Some(News::Error(error))) = mailbox.take(&wake) {
            told.push(error.code);
        }
        assert_eq!(told, [code::AUTHENTICATION, code::TRANSPORT]);
    }

    #[test]
    fn a_wait_ends_when_it_is_woken_from_elsewhere() {
        let (mailbox, wake) = (Mailbox::new().unwrap(), Wake::new().unwrap());
        wake.wake();
        assert!(matches!(mailbox.take(&wake), Ok(None)));
    }
}
