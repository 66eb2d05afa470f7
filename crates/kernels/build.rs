//! Lists the files of `shaders/` for `src/list.rs`, so that no op and no weight decoder has to be
//! listed by hand.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Relative to this crate.
const SHADERS: &str = "../../shaders";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SHADERS}");
    println!("cargo::rerun-if-changed=src");

    let mut modules = BTreeSet::new();
    for kernel in shaders("")? {
        let module = module(&kernel).ok_or_else(|| {
            format!("shaders/{kernel}.wgsl has no module: add crates/kernels/src/{kernel}.rs")
        })?;
        modules.insert(module.to_owned());
    }
    let mut text = String::new();
    writeln!(text, "const MODULES: &[fn() -> Vec<&'static Kernel>] = &[")?;
    for module in modules {
        writeln!(text, "    crate::{module}::kernels,")?;
    }
    writeln!(text, "];\nconst DECODERS: &[(&str, &str)] = &[")?;
    for decoder in shaders("weights")? {
        writeln!(text, "    ({decoder:?}, crate::shader::wgsl!(\"weights/{decoder}\")),")?;
    }
    writeln!(text, "];")?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("list.rs"), text)?;
    Ok(())
}

/// The names of the WGSL files in a folder of [`SHADERS`], sorted.
fn shaders(folder: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(Path::new(SHADERS).join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wgsl")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// The module of a kernel: the longest prefix of its name that is one. Variants share the module of
/// their op: `matmul_tiled.wgsl` belongs to `matmul.rs`.
fn module(kernel: &str) -> Option<&str> {
    let ends = [kernel.len()].into_iter().chain(kernel.rmatch_indices('_').map(|(at, _)| at));
    ends.map(|end| &kernel[..end])
        .find(|name| Path::new("src").join(name).with_extension("rs").is_file())
}
