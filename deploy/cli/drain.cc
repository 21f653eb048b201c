#include "deploy/cli/drain.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "common/config/values.h"

namespace tandem::cli {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// The process that listens at `path`. Its socket closes with it, so a connection says that it
// lives, and no other process can have its number while the connection stands.
StatusOr<pid_t> ListenerOf(const Descriptor& socket, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return InvalidArgument("the path {} is too long for a socket", path);
  }
  memcpy(address.sun_path, path.c_str(), path.size());
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return NotFound("{}: {}", path, strerror(errno));
  }
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Internal("SO_PEERCRED of {}: {}", path, strerror(errno));
  }
  return credentials.pid;
}

Status NoSuchGroup(const config::Cluster& cluster, const std::string& name) {
  std::vector<std::string> names;
  for (const config::Group& group : cluster.groups) names.push_back(group.name);
  const std::string nearest = config::Nearest(name, names);
  if (!nearest.empty()) {
    return InvalidArgument("{}: there is no group '{}'; did you mean '{}'?", cluster.file, name,
                           nearest);
  }
  return InvalidArgument("{}: there is no group '{}'; it has {}", cluster.file, name,
                         cluster.GroupNames());
}

// Whether `name` is what one process was started for: a group, or an entry of simulated ones, all
// of which are one process.
Status CheckName(const config::Cluster& cluster, const std::string& name) {
  const config::Group* group = cluster.FindGroup(name);
  if (group != nullptr && (group->device != "sim" || group->count == 1)) return OkStatus();
  if (group != nullptr) {
    return InvalidArgument(
        "{}: '{}' is one of {} groups that one process simulates and does not leave alone; drain "
        "all of them by the name of their entry, '{}'",
        cluster.file, name, group->count, group->entry);
  }
  const std::vector<const config::Group*> groups = cluster.GroupsOf(name);
  if (groups.empty()) return NoSuchGroup(cluster, name);
  if (groups.front()->device == "sim") return OkStatus();
  return InvalidArgument("{0}: '{1}' is {2} groups; drain them one by one, '{3}' to '{4}'",
                         cluster.file, name, groups.size(), groups.front()->name,
                         groups.back()->name);
}

}  // namespace

Status Drain(const config::Cluster& cluster, const std::string& group) {
  TANDEM_RETURN_IF_ERROR(CheckName(cluster, group));
  const std::string path = cluster.links.runtime_dir + "/" + group + ".sock";
  const Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const StatusOr<pid_t> leader = ListenerOf(socket, path);
  if (!leader.ok()) {
    if (leader.status().code() != StatusCode::kNotFound) return leader.status();
    return NotFound("no leader of the group '{}' runs on this machine ({})", group,
                    Message(leader.status()));
  }
  const Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, *leader, 0)));
  if (process.get() < 0 ||
      syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0) != 0) {
    return Internal("cannot signal process {}, the leader of '{}': {}", *leader, group,
                    strerror(errno));
  }
  pollfd ended = {process.get(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  return OkStatus();
}

}  // namespace tandem::cli
