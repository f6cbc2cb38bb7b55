//! The machine as the checker sees it.

use std::sync::OnceLock;

use stateright::{Model, Property};

use super::{
    breakage::Rules,
    change::take,
    fair::{self, Ending},
    law::Law,
    scope::Scope,
    sight::Sight,
    step::{Step, possible},
    world::World,
};

/// A scope that is explored under some rules.
#[derive(Debug)]
pub(crate) struct Exploration {
    pub(crate) scope: Scope,
    pub(crate) rules: Rules,
    /// What must be seen on the way: an exploration that never gets there shows nothing of it.
    pub(crate) sights: &'static [Sight],
    ending: Ending,
    /// The first state that was found to break a guarantee.
    first: OnceLock<World>,
}

impl Exploration {
    pub(crate) fn new(scope: Scope, rules: Rules, sights: &'static [Sight]) -> Self {
        Self {
            scope,
            rules,
            sights,
            ending: Ending::default(),
            first: OnceLock::new(),
        }
    }

    pub(crate) fn keeps(&self, law: Law, world: &World) -> bool {
        if law == Law::NeverLost && world.broken.is_empty() {
            // Of what may become of a state, not of what a step did.
            return self.ending.comes(world, &self.scope, self.rules);
        }
        !world.broken.has(law)
    }

    /// What happens from here on when nothing goes wrong any more.
    pub(crate) fn continuation(&self, world: &World) -> Vec<Step> {
        fair::continuation(world, &self.scope, self.rules)
    }

    /// The checker goes on for a while after a discovery, and would replace it by later ones, to which
    /// longer ways lead.
    pub(crate) fn is_first_to_break(&self, law: Law, world: &World) -> bool {
        !self.keeps(law, world) && self.first.get_or_init(|| world.clone()) == world
    }
}

impl Model for Exploration {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.scope)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        possible(world, &self.scope, self.rules, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(take(world, step, &self.scope, self.rules))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let laws = Law::ALL.iter().map(|law| law.property());
        let sights = self.sights.iter().map(|sight| sight.property());
        laws.chain(sights).collect()
    }
}
