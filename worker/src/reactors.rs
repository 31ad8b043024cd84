//! Everything that tails the log.

pub mod dispatch;
pub mod notify;
pub mod places;
pub mod project;
pub mod seal;
pub mod translate;

use apalis::prelude::Monitor;
use hub_store::project::Projection;

use crate::Context;
use crate::reactor::register as run;

/// Registers every reactor.
pub fn register(monitor: Monitor, context: &Context) -> Monitor {
    let monitor = run(monitor, translate::Translate::new(context.clone()));
    let monitor = run(monitor, dispatch::Dispatch::new(context.clone()));
    let monitor = Projection::ALL
        .into_iter()
        .fold(monitor, |monitor, projection| {
            run(monitor, project::Project::new(context.clone(), projection))
        });
    let monitor = run(monitor, seal::Seal::new(context.clone()));
    let monitor = run(monitor, places::Places::new(context.clone()));
    run(monitor, notify::Notify::new(context.clone()))
}
