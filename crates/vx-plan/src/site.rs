//! Where a unit sees its own package: nearly always a virtual path.
//!
//! Test binaries of the workspace are the exception: they run later, outside of any sandbox, and find
//! their fixtures by `env!("CARGO_MANIFEST_DIR")`. They see the workspace at its real path, and so
//! depend on the place of the checkout, on purpose.

use std::path::Path;

use crate::action::Input;
use crate::hash;
use crate::packages::join;
use crate::paths;
use crate::plan::{Mode, Package, PackageLocation, Plan, Unit};

/// The paths of one unit.
#[derive(Debug)]
pub(crate) struct Site {
    /// The workspace root.
    pub(crate) workspace: String,
    /// The package's directory.
    pub(crate) package: String,
    /// Working directory of rustc.
    pub(crate) rustc_cwd: String,
    /// The tree that holds the package.
    pub(crate) tree: Input,
}

impl Plan {
    pub(crate) fn site(&self, unit: &Unit) -> Site {
        let package = self.package_of(unit);
        match package.location {
            PackageLocation::Workspace => {
                let is_real = unit.mode == Mode::Test;
                let workspace = if is_real {
                    self.workspace_root.to_string_lossy().into_owned()
                } else {
                    paths::WORKSPACE.to_owned()
                };
                Site {
                    package: join(
                        &workspace,
                        &hash::relative(directory(package), &self.workspace_root),
                    ),
                    rustc_cwd: workspace.clone(),
                    tree: Input::WorkspaceTree {
                        at: workspace.clone(),
                    },
                    workspace,
                }
            }
            PackageLocation::Own => Site {
                workspace: paths::WORKSPACE.to_owned(),
                package: package.virtual_dir.clone(),
                rustc_cwd: package.virtual_dir.clone(),
                tree: Input::PackageTree {
                    package: unit.package,
                    at: package.virtual_root.clone(),
                },
            },
        }
    }

    /// The root source file as rustc is told: relative in the workspace, else absolute.
    pub(crate) fn source_argument(&self, unit: &Unit, site: &Site) -> String {
        let package = self.package_of(unit);
        match package.location {
            PackageLocation::Workspace => {
                hash::relative(&unit.target.src_path, &self.workspace_root)
            }
            PackageLocation::Own => join(
                &site.package,
                &hash::relative(&unit.target.src_path, directory(package)),
            ),
        }
    }
}

fn directory(package: &Package) -> &Path {
    package.manifest_path.parent().unwrap_or(Path::new("/"))
}
