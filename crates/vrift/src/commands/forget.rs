//! `vrift forget`.

use std::path::Path;

use crate::exit::{Failure, Kind};
use crate::output::Output;
use crate::target::Target;

pub(crate) fn run(path: &Path, target: &Target, output: &Output) -> Result<u8, Failure> {
    // The directory may be gone, so that only its parents can be resolved.
    let absolute = std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .map_err(|error| Failure::new(Kind::Request, error.to_string()))?;
    if absolute.join(".vrift/phantom").exists() {
        return Err(Failure::new(
            Kind::Request,
            format!("files of `{}` are links into the store", absolute.display()),
        )
        .hint("`vrift restore` makes files of them again"));
    }
    if !target.forget(&absolute)? {
        return Err(Failure::new(
            Kind::Request,
            format!("`{}` is not kept", absolute.display()),
        ));
    }
    output.status("Forgot", &absolute.display().to_string());
    Ok(0)
}
