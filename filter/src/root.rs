//! The plugin's root: takes configurations, keeps the last good one.

use std::rc::Rc;

use policy::wire::FilterConfig;

use crate::{
    host::{self, Level},
    plugin::Plugin,
};

/// Holds the configuration in force.
#[derive(Default)]
pub struct Root {
    plugin: Option<Rc<Plugin>>,
}

impl Root {
    /// The configuration in force.
    pub fn plugin(&self) -> Option<&Rc<Plugin>> {
        self.plugin.as_ref()
    }

    /// Tells what waits. At its end too.
    pub fn tick(&self) {
        if let Some(plugin) = &self.plugin {
            plugin.tick();
        }
    }

    /// A configuration that is refused leaves the one before in force; Envoy answers its sender with
    /// a NACK.
    pub fn on_configure(&mut self, size: usize) -> bool {
        let begun = host::monotonic();
        let bytes = host::configuration();
        // No configuration is a legal one; one that the host does not give is none at all.
        if bytes.len() != size {
            host::log(
                Level::Error,
                "configuration refused: the host does not give it",
            );
            return false;
        }
        let config = match FilterConfig::parse(&bytes) {
            Ok(config) => config,
            Err(problems) => {
                for problem in problems {
                    host::log(Level::Error, &format!("configuration refused: {problem}"));
                }
                return false;
            }
        };
        let plugin = Plugin::new(config);
        plugin.pace.begin();
        // Envoy begins each configuration with a root of its own; a host that does not loses nothing.
        self.tick();
        let services = plugin.rules.services().len();
        let took = host::monotonic().saturating_since(begun).as_micros();
        let line = format!("configuration of {services} services taken in {took} microseconds");
        host::log(Level::Debug, &line);
        self.plugin = Some(Rc::new(plugin));
        true
    }
}
