// Plays tandem-router or tandem-worker. Its name is "router" or "<group>.<rank>"; in the folder
// $TANDEM_FAKE_DIR it appends what happens to it to the file `events` and looks for what to do:
//   do.<name>   "exit N": at once; "fail N TEXT": likewise, with TEXT as its last error;
//               "listen PATH": on a Unix socket, as a leader does; "ignore_term"; "drain": SIGTERM
//               ends it once `drained` exists
// SIGTERM ends it with 0, SIGUSR1 with 75 (as a rank whose group is lost), SIGHUP is noted.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "common/observe/last_error.h"

namespace {

std::string Folder() {
  const char* folder = std::getenv("TANDEM_FAKE_DIR");
  return folder == nullptr ? "." : folder;
}

// One write, so that lines of several processes do not mix.
void Append(const std::string& line) {
  const int fd = open((Folder() + "/events").c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600);
  const std::string text = line + "\n";
  if (fd < 0 || write(fd, text.data(), text.size()) < 0) std::_Exit(99);
  close(fd);
}

std::string NameOf(int argc, char** argv) {
  std::string group;
  std::string rank;
  for (int i = 1; i + 1 < argc; ++i) {
    if (argv[i] == std::string("--group")) group = argv[i + 1];
    if (argv[i] == std::string("--rank")) rank = argv[i + 1];
  }
  return group.empty() ? "router" : group + "." + rank;
}

void Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) std::_Exit(98);
  listen(fd, 1);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = NameOf(argc, argv);
  std::string order;
  std::getline(std::ifstream(Folder() + "/do." + name), order);

  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, nullptr);

  std::string arguments;
  for (int i = 1; i < argc; ++i) arguments += std::string(" ") + argv[i];
  Append("start " + name + " " + std::to_string(getpid()) + arguments);
  if (order.starts_with("exit ")) return std::atoi(order.c_str() + 5);
  if (order.starts_with("fail ")) {
    char* text = nullptr;
    const auto code = static_cast<int>(std::strtol(order.c_str() + 5, &text, 10));
    tandem::observe::OpenLastError();
    tandem::observe::WriteLastError("what it said before, and longer than the last");
    tandem::observe::WriteLastError(text + 1);
    return code;
  }
  if (order.starts_with("listen ")) {
    Listen(order.substr(7));
    Append("listens " + name);
  }
  for (;;) {
    int signal = 0;
    sigwait(&set, &signal);
    Append((signal == SIGTERM ? "term " : signal == SIGHUP ? "hup " : "lost ") + name);
    if (signal == SIGHUP) continue;
    if (signal == SIGUSR1) return 75;
    if (order == "ignore_term") continue;
    while (order == "drain" && access((Folder() + "/drained").c_str(), F_OK) != 0) usleep(2000);
    return 0;
  }
}
