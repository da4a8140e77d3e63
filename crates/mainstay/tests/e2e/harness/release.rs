//! Releases of the sample shop, as folders with a program in them: good ones, and ones with a mistake.

use std::os::unix::fs::PermissionsExt;

use super::config::Config;
use super::home::Home;

impl Home {
    /// A release in a folder of its own: the sample shop with these further options.
    pub fn release(&self, name: &str, options: &str) -> String {
        let program = env!("CARGO_BIN_EXE_mainstay");
        self.script(name, &format!("exec {program} sample-shop --release {name} {options} \"$@\""))
    }

    /// A release whose program is this script.
    pub fn script(&self, name: &str, script: &str) -> String {
        let folder = self.path().join("releases").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let program = folder.join("shop");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may run");
        folder.canonicalize().expect("it is there").to_str().expect("UTF-8").to_owned()
    }
}

impl Config {
    /// A sample shop of which releases can be deployed.
    pub fn releasable(self, name: &str) -> Self {
        self.command(name, &["{release}/shop", "--port", "{port}", "--name", name])
    }
}
