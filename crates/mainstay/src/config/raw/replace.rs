//! How a server that cannot be brought back is replaced, as written.

use crate::config::read::{List, Named, Span, Text, Whole, table};

table! {
    /// A new instance in the place of a server that cannot be brought back: whose restarts are spent or did not help, or which Mainstay cannot
    /// restart. Made by one of `process`, `docker` and `command`. By default a person is asked first (`recovery.level`).
    RawReplace {
        /// One more process of this server, which has a `command`: `"app-1"`.
        process: Text,
        /// A container, made and started through the Docker Engine.
        docker: RawReplaceDocker,
        /// Programs of yours.
        command: RawReplaceCommand,
        /// A server that Mainstay cannot restart is replaced when it has been down for so long.
        #[schemars(extend("default" = "1m"))]
        after: Span,
        /// What Docker or a program is asked to do is given up after so long, and a program is killed.
        #[schemars(extend("default" = "60s"))]
        deadline: Span,
        /// The new instance has so long to be well. Then it is destroyed, and a person is called.
        #[schemars(extend("default" = "1m"))]
        healthy_within: Span,
        /// What was made is destroyed so long after it got the last request. Nothing else ever is.
        #[schemars(extend("default" = "1h"))]
        destroy_after: Span,
        /// So many instances at most take the place of others at a time.
        #[schemars(extend("default" = 1))]
        max: Whole,
        /// So many at most are made within a day.
        #[schemars(extend("default" = 3))]
        budget: Whole,
    }
}

table! {
    /// A container in the place of a server. It is called `SERVICE-INSTANCE`, and has labels that say what it is for.
    RawReplaceDocker {
        /// The image, which the Engine has: `"shop:42"`. Needed.
        image: Text,
        /// The program in it and its arguments, in place of the image's own. `{port}` stands for the port.
        command: List<Text>,
        /// Variables of its environment. `{port}` stands for the port.
        env: Named<Text>,
        /// The network that it is in, of the Engine's. With `"host"` it listens on 127.0.0.1 of this machine.
        #[schemars(extend("default" = "bridge"))]
        network: Text,
        /// The port that it listens on. Needed, but with `network = "host"`: then a free one.
        port: Whole,
        /// The Engine's Unix socket.
        #[schemars(extend("default" = "/run/docker.sock"))]
        socket: Text,
    }
}

table! {
    /// Programs that make an instance. No shell runs them; each gets what is known as one line of JSON on its standard input.
    RawReplaceCommand {
        /// Makes one and starts it, and writes `{ "id": "…", "address": "10.0.0.13:3000" }` as its last line. Needed.
        create: List<Text>,
        /// Destroys the one whose `id` it is told. Without it nothing is destroyed.
        destroy: List<Text>,
        /// Writes a line `{ "id": "…", "address": "…" }` if the instance that it is told of is there, else nothing. It is asked when Mainstay was
        /// restarted in the middle of `create` or `destroy`. Without it a person is.
        list: List<Text>,
    }
}
