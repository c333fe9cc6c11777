//! Another user was there first: every place that could be prepared is refused, with
//! the reason, and nothing is sent, started or changed.
//!
//! Two other users are needed, so these run as root; anybody else cannot play them.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::kit::{DEADLINE, FOLDER, ROLE, eventually, role_args};

const VICTIM: u32 = 65_533;
const SQUATTER: u32 = 65_534;

/// A folder like `/tmp`, with this program where all users may run it. `None` where
/// nobody can play two users.
struct Shared {
    root: TempDir,
    program: PathBuf,
    squatter: Option<Child>,
}

impl Shared {
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
    fn new() -> Option<Shared> {
        // Root of a user namespace has but one user.
        let all_users = fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
        if !rustix::process::geteuid().is_root() || !all_users {
            eprintln!("NOT SHOWN: only root can play two users");
            return None;
        }
        let root = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o1777))
            .tempdir()
            .unwrap();
        // The umask took some of it away.
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        let program = root.path().join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        Some(Shared {
            root,
            program,
            squatter: None,
        })
    }

    /// The folder of the victim; the instance lies in `run` below it.
    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn make(&self, path: &Path, owner: u32, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        lchown(path, Some(owner), Some(owner)).unwrap();
    }

    fn make_home(&self) {
        self.make(&self.home(), VICTIM, 0o700);
        for name in ["errors", "answers", "served"] {
            self.make(&self.home().join(name), VICTIM, 0o700);
        }
    }

    fn run(&self, role: &str, uid: u32) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(role_args())
            .env(ROLE, role)
            .env(FOLDER, self.home())
            .env(DEADLINE, "5000")
            .current_dir("/")
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// What the victim says about the place.
    fn refusal(&self) -> String {
        let status = self.run("client", VICTIM).status().unwrap();
        assert!(!status.success());
        assert!(
            !self.home().join("daemon.log").exists(),
            "started something"
        );
        let errors = self.home().join("errors");
        fs::read_dir(errors)
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }

    fn squat(&mut self, socket: &Path) {
        let ready = self.root.path().join("squatting");
        let child = self
            .run("squatter", SQUATTER)
            .env("SQUAT_AT", socket)
            .env("SQUAT_READY", &ready)
            .spawn()
            .unwrap();
        self.squatter = Some(child);
        eventually("the squatter listens", || ready.exists());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(mut child) = self.squatter.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

#[test]
fn an_honest_place_is_served() {
    let Some(shared) = Shared::new() else { return };
    shared.make_home();
    let status = shared.run("client", VICTIM).status().unwrap();
    assert!(status.success());
    let instance = crate::kit::instance(&shared.home());
    // Root looks at the processes of all users, but the place is not root's.
    let holder = fs::read_to_string(instance.life_lock()).unwrap();
    let record: daemon_lifecycle::LifeRecord = serde_json::from_str(&holder).unwrap();
    let process = daemon_lifecycle::IdentifiedProcess::find(&record.process)
        .unwrap()
        .unwrap();
    process.stop(crate::kit::PATIENCE).unwrap();
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let Some(shared) = Shared::new() else { return };
    shared.make_home();
    shared.make(&shared.home().join("run"), SQUATTER, 0o777);
    let error = shared.refusal();
    assert!(
        error.contains("it belongs to user 65534, not to 65533"),
        "{error}"
    );
    assert_eq!(fs::read_dir(shared.home().join("run")).unwrap().count(), 0);
}

#[test]
fn a_folder_in_a_folder_of_another_user_is_refused() {
    let Some(shared) = Shared::new() else { return };
    shared.make_home();
    shared.make(&shared.home().join("run"), VICTIM, 0o700);
    lchown(shared.home(), Some(SQUATTER), Some(SQUATTER)).unwrap();
    fs::set_permissions(shared.home(), Permissions::from_mode(0o777)).unwrap();
    let error = shared.refusal();
    assert!(error.contains("it lies in one of user 65534"), "{error}");
}

#[test]
fn a_symbolic_link_in_place_of_the_folder_is_refused() {
    let Some(shared) = Shared::new() else { return };
    shared.make_home();
    let elsewhere = shared.root.path().join("elsewhere");
    shared.make(&elsewhere, VICTIM, 0o700);
    symlink(&elsewhere, shared.home().join("run")).unwrap();
    lchown(shared.home().join("run"), Some(SQUATTER), Some(SQUATTER)).unwrap();
    let error = shared.refusal();
    assert!(error.contains("it is a symbolic link"), "{error}");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_listening_socket_of_another_user_gets_no_command() {
    let Some(mut shared) = Shared::new() else {
        return;
    };
    shared.make_home();
    let run = shared.home().join("run");
    // Prepared while the folder was open to all, and closed again later.
    fs::set_permissions(shared.home(), Permissions::from_mode(0o711)).unwrap();
    shared.make(&run, VICTIM, 0o777);
    let socket = run.join("sock");
    shared.squat(&socket);
    fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
    let error = shared.refusal();
    assert!(error.contains("a socket of another user"), "{error}");
    // The kernel knows who listens, also if the file was given away.
    lchown(&socket, Some(VICTIM), Some(VICTIM)).unwrap();
    let error = shared.refusal();
    assert!(error.contains("of user 65534"), "{error}");
    assert!(!socket.with_extension("stolen").exists());
}

#[test]
fn a_symbolic_link_in_place_of_the_socket_is_not_followed() {
    let Some(mut shared) = Shared::new() else {
        return;
    };
    shared.make_home();
    let run = shared.home().join("run");
    shared.make(&run, VICTIM, 0o700);
    let socket = shared.root.path().join("theirs");
    shared.squat(&socket);
    symlink(&socket, run.join("sock")).unwrap();
    let error = shared.refusal();
    assert!(error.contains("not a socket"), "{error}");
    assert!(!socket.with_extension("stolen").exists());
}

#[test]
fn a_lock_of_another_user_is_refused() {
    for name in ["start.lock", "life.lock"] {
        let Some(shared) = Shared::new() else { return };
        shared.make_home();
        let run = shared.home().join("run");
        shared.make(&run, VICTIM, 0o700);
        let lock = run.join(name);
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(0o666)).unwrap();
        lchown(&lock, Some(SQUATTER), Some(SQUATTER)).unwrap();
        let error = shared.refusal();
        assert!(error.contains("a file of another user"), "{error}");
        fs::remove_file(&lock).unwrap();
        symlink("/etc/passwd", &lock).unwrap();
        let error = shared.refusal();
        assert!(error.contains("is a symbolic link"), "{error}");
    }
}
