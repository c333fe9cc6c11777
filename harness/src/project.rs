//! Projects that tests build.

use std::path::{Path, PathBuf};

use vx_testkit::TestEnv;

/// A project in the work directory of a test.
#[derive(Debug)]
pub struct Project<'a> {
    env: &'a TestEnv,
    /// Its directory, relative to the work directory.
    name: String,
}

impl<'a> Project<'a> {
    /// An empty project called `name`.
    pub fn new(env: &'a TestEnv, name: &str) -> Project<'a> {
        Project {
            env,
            name: name.to_owned(),
        }
    }

    /// A binary crate that prints `text`.
    pub fn hello(env: &'a TestEnv, name: &str, text: &str) -> Project<'a> {
        let project = Project::new(env, name);
        project.write("Cargo.toml", &manifest(name, ""));
        project.write(
            "src/main.rs",
            &format!("fn main() {{\n    println!({text:?});\n}}\n"),
        );
        project
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, content: &str) {
        self.env.write(Path::new(&self.name).join(path), content);
    }

    /// Replaces text in a file that must have it.
    ///
    /// # Panics
    ///
    /// If the file does not contain `from`: the edit would do nothing.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.env.read(Path::new(&self.name).join(path));
        assert!(
            text.contains(from),
            "`{path}` does not contain `{from}`:\n{text}"
        );
        self.write(path, &text.replacen(from, to, 1));
    }

    /// The environment of the test that it belongs to.
    pub fn env(&self) -> &TestEnv {
        self.env
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.env.work_dir().join(&self.name)
    }

    /// A file that a build left.
    pub fn output(&self, path: &str) -> PathBuf {
        self.dir().join("target/vx").join(path)
    }

    /// A copy of its sources, without what was built, in a directory called `name`.
    ///
    /// # Panics
    ///
    /// If a file cannot be copied.
    pub fn copy(&self, name: &str) -> Project<'a> {
        let copy = Project::new(self.env, name);
        if let Err(error) = copy_sources(&self.dir(), &copy.dir()) {
            panic!("cannot copy {}: {error}", self.dir().display());
        }
        copy
    }
}

/// A manifest of a crate without dependencies, followed by `rest`.
fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}

/// A workspace of libraries in layers, with a procedural macro, a build script and C code:
///
/// ```text
/// app ──► top ──► left ──► base          base has a build script that reads LAYERS_MODE and data.txt
///   │        └──► right ─► base          native compiles C
///   ├──► native                          macros reads words.txt, which no compiler tells about
///   └──► macros
/// ```
pub fn layers<'a>(env: &'a TestEnv, name: &str) -> Project<'a> {
    let project = Project::new(env, name);
    project.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"app\", \"top\", \"left\", \"right\", \"base\", \"native\", \"macros\"]\nresolver = \"2\"\n",
    );
    project.write("README.md", "layers\n");
    let member = |name: &str, rest: &str| {
        project.write(&format!("{name}/Cargo.toml"), &manifest(name, rest));
    };
    member(
        "app",
        "[features]\nloud = []\n[dependencies]\ntop = { path = \"../top\" }\nnative = { path = \"../native\" }\nmacros = { path = \"../macros\" }\n",
    );
    project.write(
        "app/src/main.rs",
        "fn main() {\n    let mark = if cfg!(feature = \"loud\") { \"!\" } else { \".\" };\n    println!(\"{} {} {}{mark}\", top::top(), native::seven(), macros::words!());\n}\n",
    );
    member(
        "top",
        "[dependencies]\nleft = { path = \"../left\" }\nright = { path = \"../right\" }\n",
    );
    project.write(
        "top/src/lib.rs",
        "pub fn top() -> String {\n    format!(\"{}+{}\", left::left(), right::right())\n}\n",
    );
    for side in ["left", "right"] {
        member(side, "[dependencies]\nbase = { path = \"../base\" }\n");
        project.write(
            &format!("{side}/src/lib.rs"),
            &format!(
                "pub fn {side}() -> String {{\n    format!(\"{side}:{{}}\", base::base())\n}}\n"
            ),
        );
    }
    member("base", "build = \"build.rs\"\n");
    project.write("base/data.txt", "data");
    project.write(
        "base/build.rs",
        r#"use std::{env, fs, path::Path};
fn main() {
    println!("cargo:rerun-if-env-changed=LAYERS_MODE");
    println!("cargo:rerun-if-changed=data.txt");
    let mode = env::var("LAYERS_MODE").unwrap_or("plain".into());
    let data = fs::read_to_string("data.txt").unwrap();
    let out = env::var("OUT_DIR").unwrap();
    fs::write(Path::new(&out).join("generated.rs"), format!("pub const BASE: &str = {:?};", format!("{data}-{mode}"))).unwrap();
}
"#,
    );
    project.write(
        "base/src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\"));\npub fn base() -> &'static str {\n    BASE\n}\n",
    );
    member("native", "build = \"build.rs\"\n");
    project.write("native/seven.c", "int seven(void) { return 7; }\n");
    project.write(
        "native/build.rs",
        r#"use std::{env, process::Command};
fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let run = |program: &str, args: &[&str]| assert!(Command::new(program).args(args).status().unwrap().success());
    run("cc", &["-c", "-O1", "seven.c", "-o", &format!("{out}/seven.o")]);
    run("ar", &["crsD", &format!("{out}/libseven.a"), &format!("{out}/seven.o")]);
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static=seven");
    println!("cargo:rerun-if-changed=seven.c");
}
"#,
    );
    project.write(
        "native/src/lib.rs",
        "extern \"C\" {\n    #[link_name = \"seven\"]\n    fn c_seven() -> i32;\n}\npub fn seven() -> i32 {\n    // SAFETY: the function takes nothing and touches nothing.\n    unsafe { c_seven() }\n}\n",
    );
    member("macros", "[lib]\nproc-macro = true\n");
    project.write(
        "macros/src/lib.rs",
        r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn words(_: TokenStream) -> TokenStream {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = std::fs::read_to_string(format!("{dir}/words.txt")).unwrap_or("no words".into());
    // Nobody is told of this one: it must not exist.
    let mood = std::env::var("MACRO_MOOD").unwrap_or_default();
    format!("{:?}", format!("{}{mood}", text.trim())).parse().unwrap()
}
"#,
    );
    project.write("app/words.txt", "words\n");
    project
}

/// A crates.io application, unpacked by `ci/fetch-fixtures`, as a project of this test.
///
/// # Panics
///
/// If it was not fetched; the message says how to.
pub fn application<'a>(env: &'a TestEnv, name: &str) -> Project<'a> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/applications")
        .join(name);
    assert!(
        root.join(".complete").is_file(),
        "{} is missing: run ci/fetch-fixtures once while online",
        root.display()
    );
    let project = Project::new(env, name);
    if let Err(error) = copy_sources(&root, &project.dir()) {
        panic!("cannot copy {}: {error}", root.display());
    }
    project
}

fn copy_sources(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_sources(&source, &copy)?;
        } else {
            std::fs::copy(&source, &copy)?;
        }
    }
    Ok(())
}
