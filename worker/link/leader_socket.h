// A leader's claim to its group's name on this machine: a lock, and a Unix socket that says which
// process has it (ranks of this machine and `tandem drain` connect).
#pragma once

#include <sys/un.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

class LeaderSocket {
 public:
  // Makes `folder` if need be: it must be ours, mode 0700. kInvalidArgument: it is not, or another
  // process has the name.
  static StatusOr<std::unique_ptr<LeaderSocket>> Open(const std::string& folder,
                                                      const std::string& group);
  ~LeaderSocket();
  LeaderSocket(const LeaderSocket&) = delete;
  LeaderSocket& operator=(const LeaderSocket&) = delete;

  int listener() const { return listener_.get(); }

  static std::string PathOf(const std::string& folder, const std::string& group);
  static StatusOr<sockaddr_un> AddressOf(const std::string& path);

 private:
  LeaderSocket() = default;

  std::string path_;
  UniqueFd lock_;
  UniqueFd listener_;
};

}  // namespace tandem::link
