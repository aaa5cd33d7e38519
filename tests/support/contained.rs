//! Our own binaries in containers: image, libraries and tools are the host's.

use bollard::models::{HostConfig, RestartPolicy, RestartPolicyNameEnum};

use crate::image::Image;
use crate::server::binary;

/// An image that runs one of our binaries, in a container with [`host_config`].
pub fn image(version: &str, program: &str, arguments: &[&str]) -> Image {
    let path = format!("/plimsoll/{program}");
    Image::app(version)
        .entrypoint([path.as_str()])
        .cmd(arguments.iter().copied())
}

/// On the host's network, always restarted, with what our binaries and Debian's programs need, and
/// `binds` besides (`source:target`).
pub fn host_config(binds: impl IntoIterator<Item = String>) -> HostConfig {
    let programs = binary("plimsoll-worker");
    let programs = programs.parent().expect("it is in a directory").display();
    let mut all = vec![
        format!("{programs}:/plimsoll:ro"),
        "/usr:/usr:ro".to_owned(),
        "/usr/lib:/lib:ro".to_owned(),
    ];
    if std::path::Path::new("/usr/lib64").is_dir() {
        all.push("/usr/lib64:/lib64:ro".to_owned());
    }
    all.extend(binds);
    HostConfig {
        binds: Some(all),
        network_mode: Some("host".to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    }
}

/// The engine's socket, where our binaries look for it.
pub fn engine_socket() -> String {
    "/var/run/docker.sock:/var/run/docker.sock".to_owned()
}

/// The directory of a server's socket, under the same path.
pub fn directory_of(socket: &std::path::Path) -> String {
    let directory = socket.parent().expect("it is in a directory").display();
    format!("{directory}:{directory}")
}
