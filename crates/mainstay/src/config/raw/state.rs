//! Servers that keep state, as written.

use crate::config::read::{Text, table};

table! {
    /// Servers that keep state and say themselves who of them is the primary.
    RawState {
        /// What they are: `postgres`. Needed. `state = "postgres"` says no more than that.
        #[schemars(extend("enum" = ["postgres"]))]
        kind: Text,
        /// `writes`: connections go to the primary alone, and all others stand by. `reads`: they go to the replicas, and to the primary
        /// when too few replicas may serve.
        #[schemars(extend("default" = "writes", "enum" = ["writes", "reads"]))]
        serves: Text,
    }
}
