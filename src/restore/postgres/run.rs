//! Carrying a plan out.

use std::path::Path;

use crate::clock::Clock;
use crate::control::{Control, Step as Doing};
use crate::error::{Error, Kind, Result};
use crate::restore::postgres::facts::Facts;
use crate::restore::postgres::journal::{Journal, Step};
use crate::restore::postgres::plan::{Archive, Plan, Way, beside};
use crate::restore::postgres::recover::{Recovered, recover};
use crate::restore::postgres::swap::{Names, admin, oid_of, step, swap};
use crate::source::postgres::{
    Dumped, Load, Loader, Lock, Outline, Postgres, close, execute, ident, query_one,
};

/// Tables that a dump defines; those of extensions are the extensions' own.
const TABLES: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT 1 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
const BROKEN_INDEXES: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";

/// Where a restore takes place.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The database.
    pub source: &'a Postgres,
    /// Its folder of our state.
    pub folder: &'a Path,
    /// The time.
    pub clock: &'a Clock,
    /// The job's.
    pub control: &'a Control,
}

/// Carries a plan out. Nothing of it is left when it fails, but for a server that went away:
/// then [`recover`] ends it.
///
/// # Errors
/// [`Kind::Corrupt`]: the dump is damaged or not all of it arrived; [`Kind::Cancelled`];
/// [`Kind::InUse`]: sessions do not end; what the server and the programs say.
pub async fn restore(ground: Ground<'_>, plan: &Plan, archive: &Archive, lock: Lock) -> Result<()> {
    let database = ground.source.target().database();
    match &plan.way {
        Way::InPlace(_) => {
            let done = in_place(ground, plan, archive).await;
            lock.release().await;
            done
        }
        Way::Into(name) => {
            let done = into(ground, plan, archive, name).await;
            lock.release().await;
            settled(ground, done).await
        }
        Way::Swap => {
            let done = async {
                let incoming_oid = fresh(ground, plan, archive).await?;
                ground.control.check()?;
                let mut journal = Journal::read(ground.folder, database)?;
                journal.now = Step::Swapping {
                    incoming: plan.fresh.clone(),
                    incoming_oid,
                    live_oid: plan.facts.oid(),
                    outgoing: plan.outgoing.clone(),
                    key: archive.key.to_string(),
                    drop_incoming: true,
                };
                exchange(ground, journal, lock).await
            };
            settled(ground, done.await).await
        }
    }
}

/// Brings the kept database back; the live one is kept in its place.
///
/// # Errors
/// [`Kind::NotFound`] when none is kept; as [`restore`].
pub async fn undo(ground: Ground<'_>, mut lock: Lock) -> Result<()> {
    let database = ground.source.target().database();
    let mut journal = Journal::read(ground.folder, database)?;
    let none = || Error::new(Kind::NotFound, "There is no database to bring back.");
    let kept = journal.kept.clone().ok_or_else(none)?;
    let facts = Facts::read(lock.connection()).await?;
    if oid_of(lock.connection(), &kept.name).await? != kept.oid {
        return Err(none().because("somebody removed or renamed it on the server"));
    }
    let id = format!("{:08x}", rand::random::<u32>());
    journal.now = Step::Swapping {
        incoming: kept.name,
        incoming_oid: kept.oid,
        live_oid: facts.oid(),
        outgoing: beside(database, &id, "_old"),
        key: kept.key,
        drop_incoming: false,
    };
    let done = exchange(ground, journal, lock).await;
    settled(ground, done).await
}

/// Announces the exchange of names and does it.
async fn exchange(ground: Ground<'_>, journal: Journal, lock: Lock) -> Result<()> {
    ground.control.enter(Doing::Swapping);
    step("postgres-announce")?;
    journal.write(ground.folder)?;
    let Step::Swapping { incoming, outgoing, .. } = &journal.now else {
        return Err(Error::internal("nothing to exchange"));
    };
    let live = ground.source.target().database();
    swap(ground.source, lock, Names { live, incoming, outgoing }).await
}

/// The end of every way that writes the journal: what was done is looked up on the server and
/// written down. A swap whose answer was lost is a swap.
async fn settled(ground: Ground<'_>, done: Result<()>) -> Result<()> {
    let recovered = recover(ground.source, ground.folder, ground.clock).await;
    match (done, recovered) {
        (Ok(()), Ok(_)) | (Err(_), Ok(Recovered::Swapped)) => Ok(()),
        (Err(error), Ok(_)) => Err(error),
        (Ok(()), Err(error)) => {
            tracing::warn!(error = error.full(), "what a restore left is removed later");
            Ok(())
        }
        (Err(error), Err(second)) => {
            tracing::error!(error = second.full(), "a restore that failed is ended later");
            Err(error.hint("it is taken back once the database server answers"))
        }
    }
}

async fn in_place(ground: Ground<'_>, plan: &Plan, archive: &Archive) -> Result<()> {
    let Ground { source, control, .. } = ground;
    // Before anything is touched: the transaction would be over before the sum is known.
    control.enter(Doing::Checking);
    let read = source.read_whole(&plan.programs, archive.reader().await?, control).await?;
    require_same(archive, &read)?;
    control.enter(Doing::Extracting);
    let loader = loader(plan, source.target().database(), Load::InPlace);
    let loaded = source.load(&loader, archive.reader().await?, control).await?;
    require_same(archive, &loaded)
}

async fn into(ground: Ground<'_>, plan: &Plan, archive: &Archive, name: &str) -> Result<()> {
    fresh(ground, plan, archive).await?;
    let mut connection = admin(ground.source).await?;
    let sql = format!("ALTER DATABASE {} RENAME TO {}", ident(&plan.fresh), ident(name));
    step("postgres-name")?;
    execute(&mut connection, &sql).await?;
    close(connection).await;
    Ok(())
}

/// Makes, loads and checks a fresh database; its number.
async fn fresh(ground: Ground<'_>, plan: &Plan, archive: &Archive) -> Result<i64> {
    let Ground { source, control, .. } = ground;
    let mut journal = Journal::read(ground.folder, source.target().database())?;
    journal.now = Step::Loading { fresh: plan.fresh.clone() };
    journal.write(ground.folder)?;
    step("postgres-create")?;
    let mut connection = admin(source).await?;
    execute(&mut connection, &plan.facts.create(&plan.fresh)).await?;
    control.enter(Doing::Extracting);
    step("postgres-load")?;
    let loader = loader(plan, &plan.fresh, Load::Fresh);
    let reader = archive.reader().await?;
    let local = archive.storage.local_path(&archive.key).filter(|_| source.jobs() > 1);
    let loaded = match local {
        Some(file) => source.load_file(&loader, file, reader, control).await?,
        None => source.load(&loader, reader, control).await?,
    };
    require_same(archive, &loaded)?;
    control.enter(Doing::Checking);
    step("postgres-check")?;
    check(source, &plan.fresh, &plan.outline).await?;
    plan.facts.pass_on(&mut connection, &plan.fresh).await?;
    let oid = oid_of(&mut connection, &plan.fresh).await?;
    close(connection).await;
    Ok(oid)
}

fn loader(plan: &Plan, database: &str, how: Load) -> Loader {
    let (owners, programs) = (plan.owners, plan.programs.clone());
    Loader { database: database.to_owned(), how, owners, programs }
}

/// Whether everything of the dump is there and usable; refreshes the planner's statistics,
/// which no dump holds.
async fn check(source: &Postgres, database: &str, outline: &Outline) -> Result<()> {
    let mut connection = source.connect(database).await?;
    let tables: i64 = query_one(&mut connection, TABLES).await?;
    let broken: i64 = query_one(&mut connection, BROKEN_INDEXES).await?;
    if tables.unsigned_abs() < outline.tables || broken > 0 {
        let expected = outline.tables;
        return Err(Error::new(
            Kind::Corrupt,
            format!("Of {expected} tables {tables} are there, and {broken} indexes are broken."),
        ));
    }
    execute(&mut connection, "ANALYZE").await?;
    close(connection).await;
    Ok(())
}

fn require_same(archive: &Archive, read: &Dumped) -> Result<()> {
    match &archive.sha256 {
        Some(sum) if *sum != read.sha256 => Err(Error::new(
            Kind::Corrupt,
            "The backup is not what was stored: its SHA-256 differs.",
        )),
        _ => Ok(()),
    }
}
