#include "worker/link/leader_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace tandem::link {
namespace {

Status Failed(const std::string& what, const std::string& path) {
  return InvalidArgument("{} {}: {}; see links.runtime_dir", what, path, std::strerror(errno));
}

// The folder may lie in /tmp: refuse one that somebody else has put there.
Status PrepareFolder(const std::string& dir) {
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return Failed("cannot make folder", dir);
  struct stat status {};
  if (::lstat(dir.c_str(), &status) != 0) return Failed("cannot look at", dir);
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 022) != 0) {
    return InvalidArgument(
        "{} must be a folder of this user that only he can write; see "
        "links.runtime_dir",
        dir);
  }
  return OkStatus();
}

}  // namespace

std::string LeaderSocket::PathOf(const std::string& folder, const std::string& group) {
  return folder + "/" + group + ".sock";
}

StatusOr<sockaddr_un> LeaderSocket::AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return InvalidArgument(
        "socket path {} has {} bytes, {} are possible; shorten "
        "links.runtime_dir",
        path, path.size(), sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Who holds the lock owns the group's name on this machine, so a socket file that is already there
// is a dead leader's.
StatusOr<std::unique_ptr<LeaderSocket>> LeaderSocket::Open(const std::string& folder,
                                                           const std::string& group) {
  std::unique_ptr<LeaderSocket> self(new LeaderSocket());
  const std::string path = PathOf(folder, group);
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  TANDEM_RETURN_IF_ERROR(PrepareFolder(folder));
  const std::string lock_path = folder + "/" + group + ".lock";
  self->lock_ =
      UniqueFd(::open(lock_path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!self->lock_.valid()) return Failed("cannot open", lock_path);
  if (::flock(self->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return InvalidArgument(
        "group {} has a leader on this machine already ({} is locked); stop it, "
        "or use another links.runtime_dir",
        group, lock_path);
  }
  ::unlink(path.c_str());
  self->listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!self->listener_.valid() ||
      ::bind(self->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
          0 ||
      ::listen(self->listener_.get(), 64) != 0) {
    return Failed("cannot listen on", path);
  }
  self->path_ = path;
  return self;
}

LeaderSocket::~LeaderSocket() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace tandem::link
