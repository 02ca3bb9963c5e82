//! `mumbai-mesh completion`.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::output::print;

/// Print a script that completes this program's commands in your shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(mumbai-mesh completion bash)\n  \
                  mumbai-mesh completion zsh > \"${fpath[1]}/_mumbai-mesh\"\n  \
                  mumbai-mesh completion fish > ~/.config/fish/completions/mumbai-mesh.fish")]
pub(super) struct Completion {
    /// Your shell.
    shell: KnownShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let shell = match self.shell {
            KnownShell::Bash => Shell::Bash,
            KnownShell::Zsh => Shell::Zsh,
            KnownShell::Fish => Shell::Fish,
        };
        let mut command = super::Cli::command();
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "mumbai-mesh", &mut script);
        let script = String::from_utf8(script)?;
        // clap_complete writes a hyphen of the program's name in two ways, so that its bash script finds no command.
        print(&script.replace("mumbai__subcmd__mesh", "mumbai__mesh"))?;
        Ok(())
    }
}
