//! Writes what page and engine say to each other as TypeScript types: `protocol_types FILE`. `cargo xtask npm` puts the
//! file into the npm package, whose code is checked against it.

use std::{any::TypeId, collections::BTreeMap};

use hearth_web::protocol::{FromEngine, ToEngine};
use ts_rs::{Config, TS, TypeVisitor};

/// The declarations of a type and of all types in it, by their names.
struct Declarations {
    config: Config,
    found: BTreeMap<String, (TypeId, String)>,
    /// Types whose names are those of others.
    twice: Vec<String>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // types of the standard library have no declaration
        if T::output_path().is_none() {
            return;
        }
        let name = T::ident(&self.config);
        match self.found.get(&name) {
            Some((known, _)) if *known == TypeId::of::<T>() => {}
            Some(_) => self.twice.push(name),
            None => {
                let text = T::docs().unwrap_or_default() + "export " + &T::decl(&self.config);
                self.found.insert(name, (TypeId::of::<T>(), text));
                T::visit_dependencies(self);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("name the file to write: protocol_types FILE")?;
    let mut all = Declarations {
        // JSON has one kind of number
        config: Config::new().with_large_int("number"),
        found: BTreeMap::new(),
        twice: Vec::new(),
    };
    all.visit::<ToEngine>();
    all.visit::<FromEngine>();
    if !all.twice.is_empty() {
        return Err(format!("two types have one name; rename one: {}", all.twice.join(", ")).into());
    }
    let mut text = "// Made from Hearth's Rust sources by `cargo xtask npm`.\n".to_owned();
    for (_, declaration) in all.found.values() {
        text += &format!("\n{declaration}\n");
    }
    let told = |error| format!("cannot write {}: {error}", file.display());
    Ok(std::fs::write(&file, text).map_err(told)?)
}
