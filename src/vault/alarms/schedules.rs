//! News of schedules: runs that did not take place, and that it is well again.

use chrono::{DateTime, Utc};

use crate::clock::pocketbase_time;
use crate::config::notify::Event;
use crate::error::Result;
use crate::vault::alarms::Alarms;
use crate::vault::alarms::book::Book;
use crate::vault::alarms::judge::{self, Step};

impl Alarms {
    /// Runs of a schedule did not take place, the last one at `last`: nobody was there, or the
    /// run before it still went on.
    pub async fn schedule_missed(
        &self,
        name: &str,
        count: u64,
        last: DateTime<Utc>,
        is_made_up: bool,
        overlaps: bool,
    ) {
        let due = pocketbase_time(last);
        let mut text = format!("The schedule {name}: {count} run(s) missed; the last at {due}.");
        if is_made_up {
            text.push_str(" One run makes up for them now.");
        }
        let mut note =
            judge::plain(Event::Missed, "A scheduled run was missed", text, self.clock.now());
        note.hint = Some(match overlaps {
            true => "the run before it still goes on: leave more time between them".to_owned(),
            false => "was the server stopped, or the machine asleep?".to_owned(),
        });
        self.tell(&Step::Raise(condition(name), note)).await;
    }

    /// A run of a schedule ended well.
    pub async fn schedule_kept(&self, name: &str) {
        let text = format!("The schedule {name} runs again.");
        let note = judge::plain(Event::Recovery, "A schedule runs again", text, self.clock.now());
        self.tell(&Step::Clear(vec![condition(name)], note)).await;
    }

    async fn tell(&self, step: &Step) {
        let told: Result<()> = async {
            let _looking = self.looking.lock().await;
            let mut book = Book::open(&self.means.state).await?;
            self.follow(&mut book, step, self.clock.now()).await?;
            book.close().await?;
            self.wake();
            Ok(())
        }
        .await;
        if let Err(error) = told {
            tracing::error!(error = error.full(), "nobody was told of a schedule");
        }
    }
}

fn condition(name: &str) -> String {
    format!("{}:{name}", judge::SCHEDULE)
}
