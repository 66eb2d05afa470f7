//! Content security policies: what keeps the user's data in the tab (DESIGN D11).
//!
//! Everything comes from the page's own address, and of inline scripts only those in the page itself, by
//! hash. Workers get the policy with their own response: a page's does not bind them. Only the loader,
//! which never sees the user's data, may reach the weight hosts.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// As in web/src/protocol/loader.rs.
const WEIGHT_HOSTS: [&str; 3] =
    ["https://huggingface.co", "https://*.huggingface.co", "https://*.hf.co"];
/// The loader's scripts: what starts the worker, and the worker.
const LOADER: [&str; 2] = ["loader_loader.js", "loader.js"];

/// The policies of a page and its workers, each the value of a Content-Security-Policy header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    page: String,
    loader: String,
}

impl Policies {
    /// The policies for this page; `weight_hosts` are added to the usual ones.
    pub fn of(html: &str, weight_hosts: &[String]) -> Self {
        let hosts = WEIGHT_HOSTS.into_iter().chain(weight_hosts.iter().map(String::as_str));
        let hosts: String = hosts.flat_map(|host| [" ", host]).collect();
        Self { page: policy(html, ""), loader: policy("", &hosts) }
    }

    /// The policy of a file, by its path below the page.
    pub fn for_file(&self, name: &str) -> &str {
        if LOADER.contains(&name) { &self.loader } else { &self.page }
    }
}

fn policy(html: &str, hosts: &str) -> String {
    let mut scripts = "'self' 'wasm-unsafe-eval'".to_owned();
    for script in inline_scripts(html) {
        let hash = STANDARD.encode(Sha256::digest(script));
        scripts.push_str(&format!(" 'sha256-{hash}'"));
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self'{hosts}; worker-src 'self'; manifest-src 'self'; object-src 'none'; \
         base-uri 'none'; form-action 'none'; frame-src 'none'; \
         require-trusted-types-for 'script'; trusted-types default; frame-ancestors 'none'"
    )
}

/// What a page has in the place of its policy until it is built.
const PLACEHOLDER: &str = "content=\"default-src 'none'\"";

/// The page with its whole policy in its `<meta>` element, which binds it from its first byte on whatever server it
/// comes from; but for `frame-ancestors`, which only a header can say.
pub fn with_policy(html: &str) -> String {
    let policy = policy(html, "").replace("; frame-ancestors 'none'", "");
    html.replacen(PLACEHOLDER, &format!("content=\"{policy}\""), 1)
}

/// Whether this may stand in a policy as a host: `https://example.org`, `http://localhost:*`.
pub(crate) fn is_origin(host: &str) -> bool {
    let name = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:*[]".contains(c);
    name.is_some_and(|name| !name.is_empty() && name.chars().all(plain))
}

fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str) -> String {
        let package = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
        std::fs::read_to_string(package.join("../..").join(path)).unwrap()
    }

    #[test]
    fn origins_are_told_from_what_would_end_a_policy() {
        for host in ["https://example.org", "http://localhost:*", "http://[::1]:80"] {
            assert!(is_origin(host), "{host}");
        }
        for host in ["", "https://", "*", "example.org", "https://a; img-src *", "https://a b"] {
            assert!(!is_origin(host), "{host}");
        }
    }

    #[test]
    fn only_the_pages_own_inline_script_is_allowed() {
        let html = "<script type=\"module\">1</script><script src=\"x.js\"></script>";
        let policies = Policies::of(html, &[]);
        for name in ["index.html", "worker_loader.js", "worker.js", "sw.js", "app-1.js", ""] {
            let policy = policies.for_file(name);
            // the base64 of the sha256 of "1"
            let hash = "'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='";
            assert!(policy.contains(hash) && policy.matches("sha256-").count() == 1, "{policy}");
            assert!(policy.contains("connect-src 'self';"), "{name}: {policy}");
            assert!(!policy.contains("unsafe-inline") && !policy.contains('*'), "{name}: {policy}");
        }
    }

    #[test]
    fn the_page_carries_its_policy() {
        let html = source("index.html") + "<script>1</script>";
        let built = with_policy(&html);
        let (before, rest) = built.split_once("http-equiv=\"Content-Security-Policy\"").unwrap();
        // nothing that is fetched comes first
        assert!(!before.contains("<link") && !before.contains("<script"), "{before}");
        let policy = rest.split('"').nth(1).unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self' "), "{policy}");
        assert_eq!(format!("{policy}; frame-ancestors 'none'"), Policies::of(&html, &[]).page);
    }

    #[test]
    fn the_loader_alone_reaches_the_weight_hosts() {
        let policies = Policies::of("<script>1</script>", &["http://localhost:*".to_owned()]);
        for name in LOADER {
            let policy = policies.for_file(name);
            let hosts = "connect-src 'self' https://huggingface.co https://*.huggingface.co \
                         https://*.hf.co http://localhost:*;";
            assert!(policy.contains(hosts) && !policy.contains("sha256-"), "{policy}");
        }
        assert!(!policies.for_file("index.html").contains("localhost"));
    }

    #[test]
    fn the_page_names_the_same_weight_hosts() {
        let source = source("web/src/protocol/loader.rs");
        let (_, rest) = source.split_once("pub const WEIGHT_HOSTS").unwrap();
        let (list, _) = rest.split_once("];\n").unwrap();
        let named: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(named, WEIGHT_HOSTS);
    }
}
