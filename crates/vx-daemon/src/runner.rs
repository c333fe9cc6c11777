//! Gets the outputs of one unit: from what is known, or by running its action.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use vx_plan::{BuildOutputs, UnitId};

use crate::attempt::Attempt;
use crate::ended::{Early, Ended};
use crate::executor::Executor;
use crate::report::Reporter;
use crate::slots::Slots;
use crate::unit::{BuildInputs, UnitOutputs};

/// What all units of one build share.
pub(crate) struct Runner {
    pub(crate) inputs: BuildInputs,
    pub(crate) executor: Arc<Executor>,
    pub(crate) slots: Slots,
    pub(crate) reporter: Reporter,
    pub(crate) environment: HashMap<String, String>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) verbose: bool,
}

impl Runner {
    /// Gets the outputs of `unit`; `known` has those of the units that it waits for.
    pub(crate) async fn run(
        &self,
        id: UnitId,
        known: &BTreeMap<UnitId, UnitOutputs>,
        early: &mpsc::UnboundedSender<Early>,
    ) -> Ended {
        let scripts: BuildOutputs = known
            .iter()
            .filter_map(|(id, outputs)| Some((*id, outputs.script.clone()?)))
            .collect();
        // rustc reads this one without telling anybody, so every unit gets it.
        let bootstrap = self.environment.get_key_value("RUSTC_BOOTSTRAP");
        let passed = bootstrap
            .map(|(n, v)| (n.clone(), v.clone()))
            .into_iter()
            .collect();
        let spec = self.inputs.plan.action(id, &scripts, &passed)?;
        let unit = self
            .inputs
            .plan
            .unit(id)
            .ok_or(vx_plan::ActionError::UnknownUnit(id.0))?;
        let draft = self.inputs.draft(unit, &spec, known)?;
        let attempt = Attempt {
            runner: self,
            unit,
            spec,
            draft,
            early,
        };
        attempt.run().await
    }
}
