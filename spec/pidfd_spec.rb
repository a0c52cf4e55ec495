# frozen_string_literal: true

require "etc"

RSpec.describe SwarmNative::Pidfd do
  # The kernel keeps the end of a process that others reap since Linux 6.15.
  def keeps_record?
    Gem::Version.new(Etc.uname[:release][/\A\d+\.\d+/]) >= Gem::Version.new("6.15")
  end

  # Runs the code and returns what it has printed, evaluated: it prints by `say value`.
  def said(code, **options)
    result = run_ruby(<<~RUBY, **options)
      # Not by include: a gem that asks whether Something::VERSION is defined would find ours.
      Pidfd, ClosedHandle, ExitStatus = SwarmNative::Pidfd, SwarmNative::ClosedHandle, SwarmNative::ExitStatus
      def say(*values) = values.each { |value| puts value.inspect }
      def sh(script, **options) = Process.spawn("/bin/sh", "-c", script, **options)
      # A process that is no child of this one, and that exits with 5 once its block is over. Its parent reaps it.
      def with_grandchild
        shell = IO.popen(["/bin/sh", "-c", "exec 3<&0; (read line <&3; exit 5) & echo $!; wait"], "r+")
        yield shell.gets.to_i, -> { shell.close_write }
      ensure
        shell.close
      end
      def fds = Dir.children("/proc/self/fd").size
      #{code}
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.err).to eq("")
    result.out.lines(chomp: true)
  end

  # Code that puts a seccomp filter over the process: pidfd_open fails as on a kernel that does not know it.
  def without_pidfd_open
    <<~'RUBY'
      require "fiddle"
      load_nr, ours, refuse, allow = [0x20, 0, 0, 0], [0x15, 0, 1, 434], [0x06, 0, 0, 0x50026], [0x06, 0, 0, 0x7fff0000]
      filter = [load_nr, ours, refuse, allow].map { |instruction| instruction.pack("SCCL") }.join
      program = [4, Fiddle::Pointer[filter].to_i].pack("Sx6J")
      prctl = Fiddle::Function.new(Fiddle.dlopen(nil)["prctl"], [Fiddle::TYPE_LONG] * 5, Fiddle::TYPE_INT)
      prctl.call(38, 1, 0, 0, 0).zero? or raise "no_new_privs"
      prctl.call(22, 2, Fiddle::Pointer[program].to_i, 0, 0).zero? or raise "seccomp"
    RUBY
  end

  describe ".supported?" do
    it "is true on a kernel that has pidfds" do
      expect(described_class).to be_supported
    end

    it "is false where the kernel or a seccomp filter forbids them, and `new` says why", :aggregate_failures do
      lines = said(<<~RUBY)
        #{without_pidfd_open}
        say Pidfd.supported?
        begin
          Pidfd.new(Process.pid)
        rescue SystemCallError => e
          say e.class, e.message
        end
      RUBY
      expect(lines[0..1]).to eq(%w[false Errno::ENOSYS])
      expect(lines[2]).to include("Linux 5.4", "seccomp", "pidfd_open")
    end
  end

  describe ".new" do
    it "refuses what is no pid, naming it", :gc_stress do
      { nil => "nil", 1.0 => "1.0", "1" => '"1"', :a => ":a" }.each do |value, shown|
        expect { described_class.new(value) }
          .to raise_error(TypeError, "a pid is an Integer above 0, got #{shown} (#{value.class})")
      end
      [0, -1, -(2**70)].each do |value|
        expect { described_class.new(value) }
          .to raise_error(ArgumentError, "a pid is an Integer above 0, got #{value}")
      end
    end

    it "finds no process above the highest pid" do
      [4_194_305, 2**31, 2**70].each do |value|
        expect { described_class.new(value) }.to raise_error(Errno::ESRCH, /opening a pidfd for pid #{value}\z/)
      end
    end

    it "finds no process that was reaped" do
      pid = Process.spawn("/bin/sh", "-c", "exit")
      Process.wait(pid)
      expect { described_class.new(pid) }.to raise_error(Errno::ESRCH, /pid #{pid}/)
    end

    it "says which process a thread belongs to" do
      tid = nil
      thread = Thread.new { Thread.stop }
      wait_until { thread.stop? }
      tid = (Dir.children("/proc/self/task").map(&:to_i) - [Process.pid]).first
      expect { described_class.new(tid) }
        .to raise_error(ArgumentError, "#{tid} is a thread of the process #{Process.pid}: a pidfd needs the pid of " \
                                       "the process")
    ensure
      thread.kill
    end

    it "cannot be copied or made from nothing" do
      pidfd = described_class.new(Process.pid)
      expect { pidfd.dup }.to raise_error(TypeError)
      expect { pidfd.clone }.to raise_error(TypeError)
      expect { described_class.allocate }.to raise_error(TypeError)
      expect { Marshal.dump(pidfd) }.to raise_error(TypeError)
    end

    it "makes objects of a subclass" do
      subclass = Class.new(described_class) { def ==(other) = pid == other }
      expect(subclass.new(Process.pid)).to eq(Process.pid)
    end

    it "reports that descriptors have run out, by errno and pid" do
      expect(said(<<~RUBY)).to eq(["Errno::EMFILE", '"Too many open files - opening a pidfd for pid 1"', "true"])
        Process.setrlimit(:NOFILE, fds + 20)
        kept = []
        begin
          100.times { kept << Pidfd.new(1) }
        rescue SystemCallError => e
          say e.class, e.message
        end
        kept.each(&:close)
        say Pidfd.new(1).alive?
      RUBY
    end

    it "collects forgotten handles before it reports that descriptors have run out" do
      expect(said(<<~RUBY)).to eq(["true"])
        Process.setrlimit(:NOFILE, fds + 20)
        2_000.times { Pidfd.new(1) }
        say true
      RUBY
    end
  end

  describe "#alive?" do
    it "is true for the process itself and for one that is no child" do
      expect(described_class.new(Process.pid)).to be_alive
      expect(described_class.new(Process.ppid)).to be_alive
    end

    it "turns false at the end of the process, before anybody has reaped it, and stays so", :gc_stress do
      expect(said(<<~RUBY)).to eq(%w[true false 7 false false])
        out, keep = IO.pipe
        pid = sh("read line; exit 7", in: out)
        pidfd = Pidfd.new(pid)
        say pidfd.alive?
        keep.close
        wait_until { !pidfd.alive? }
        say pidfd.alive?
        _, status = Process.wait2(pid)
        say status.exitstatus, pidfd.alive?
        pidfd.close
        say pidfd.alive?
      RUBY
    end

    it "asks the kernel no more once it has been false" do
      pid = Process.spawn("/bin/sh", "-c", "exit")
      pidfd = described_class.new(pid)
      Process.wait(pid)
      expect(pidfd).not_to be_alive
      # A descriptor that is closed under its feet would make each system call fail.
      pidfd.close
      expect(pidfd).not_to be_alive
      expect(pidfd.signal("TERM")).to be(false)
    end

    it "sees the end also when it has been asked often" do
      expect(said(<<~RUBY)).to eq(["true", "false"])
        pid = sh("exec sleep 60")
        pidfd = Pidfd.new(pid)
        say Array.new(1_000) { pidfd.alive? }.all?
        Process.kill(:KILL, pid)
        wait_until { !pidfd.alive? }
        say pidfd.alive?
      RUBY
    end

    it "raises ClosedHandle when closed before the end was seen" do
      pidfd = described_class.new(Process.pid).tap(&:close)
      expect { pidfd.alive? }.to raise_error(SwarmNative::ClosedHandle, "the pidfd of pid #{Process.pid} is closed")
    end
  end

  describe "#signal" do
    ['"USR1"', '"SIGUSR1"', ":USR1", ":SIGUSR1", "10", '"xUSR1".delete_prefix("x").force_encoding("BINARY")',
     '"USR1".dup.to_sym'].each do |name|
      it "sends #{name}", :gc_stress do
        expect(said(<<~RUBY)).to eq(["true", '"got it"'])
          got = []
          trap("USR1") { got << "got it" }
          say Pidfd.new(Process.pid).signal(#{name})
          wait_until { got.any? }
          say got.first
        RUBY
      end
    end

    it "sends every signal that Ruby knows by name, under the number that Ruby gives it" do
      expect(said(<<~'RUBY')).to eq(["[]"])
        # A stopped process keeps what it is sent as pending, but for those that it ignores.
        kept = Signal.list.reject { |name, _| %w[EXIT KILL STOP CONT CHLD CLD URG WINCH TTIN TTOU TSTP].include?(name) }
        pid = sh("exec sleep 60", pgroup: true)
        pidfd = Pidfd.new(pid)
        pidfd.signal("STOP")
        wait_until { File.read("/proc/#{pid}/stat")[/\) (\S)/, 1] == "T" }
        pending = -> { File.read("/proc/#{pid}/status")[/^ShdPnd:\s*(\h+)/, 1].hex }
        say(kept.reject do |name, number|
          before = pending.call
          pidfd.signal(name)
          pending.call == before | (1 << (number - 1))
        end.keys)
        pidfd.signal("KILL")
        pidfd.cleanup
      RUBY
    end

    it "refuses what is no signal, naming it and what is allowed", :gc_stress do
      pidfd = described_class.new(Process.pid)
      ["term", "", "SIG", "TERM\0", :EXIT, "EXIT", 0, -15, 65, 2**80].each do |value|
        expect { pidfd.signal(value) }
          .to raise_error(ArgumentError, "no such signal: #{value.inspect}; a signal is a name such as \"TERM\", " \
                                         '"SIGTERM" or :TERM, or a number from 1 to 64')
      end
      [nil, 15.0, []].each do |value|
        expect { pidfd.signal(value) }.to raise_error(TypeError, /got #{Regexp.escape(value.inspect)} \(#{value.class}\)/)
      end
    end

    it "is false for a process that has ended, reaped or not", :gc_stress do
      expect(said(<<~RUBY)).to eq(["true", "false", "false", "false"])
        pid = sh("exec sleep 60")
        pidfd = Pidfd.new(pid)
        say pidfd.signal("KILL")
        other = Pidfd.new(pid)
        pidfd.wait
        say other.signal("TERM")
        Process.wait(pid)
        say pidfd.signal("TERM")
        say pidfd.tap(&:close).signal("TERM")
      RUBY
    end

    # Not CONT: that one the kernel lets through to every process of the sender's session.
    it "raises the kernel's refusal" do
      expect(said(<<~RUBY)).to eq(["Errno::EPERM", '"Operation not permitted - sending signal 23 to pid N"'])
        stranger = Process.uid.zero? ? Process.ppid : 1
        Process::UID.change_privilege(65_534) if Process.uid.zero?
        begin
          Pidfd.new(stranger).signal("URG")
        rescue SystemCallError => e
          say e.class, e.message.sub(/\\d+\\z/, "N")
        end
      RUBY
    end

    it "raises ClosedHandle when closed" do
      pidfd = described_class.new(Process.pid).tap(&:close)
      expect { pidfd.signal("CONT") }.to raise_error(SwarmNative::ClosedHandle)
    end

    it "works in a trap" do
      expect(said(<<~RUBY)).to eq(["true", "true", '"pid SIGKILL (signal 9)"'])
        pid = sh("exec sleep 60")
        pidfd = Pidfd.new(pid)
        trap("USR1") { say pidfd.alive?, pidfd.signal("KILL"), pidfd.wait.to_s.sub(/\\d+ /, "") }
        Process.kill("USR1", Process.pid)
        pidfd.wait
      RUBY
    end
  end

  describe "#wait" do
    it "tells how a child ended and leaves it to be reaped", :gc_stress do
      expect(said(<<~RUBY)).to eq(["true", '"exit 7"', "true", "7", '"exit 7"'])
        pid = sh("exit 7")
        pidfd = Pidfd.new(pid)
        status = pidfd.wait
        say status.pid == pid, status.to_s.sub("pid \#{pid} ", ""), pidfd.wait(0).equal?(status)
        say Process.wait2(pid).last.exitstatus
        say pidfd.wait.to_s.sub("pid \#{pid} ", "")
      RUBY
    end

    it "tells the signal that ended a child" do
      expect(said(<<~RUBY)).to eq(["15", "nil", "false"])
        pidfd = Pidfd.new(sh("exec sleep 60"))
        pidfd.signal("TERM")
        status = pidfd.cleanup
        say status.termsig, status.success?, status.coredump?
      RUBY
    end

    it "returns nil at the timeout, and at once for 0", :gc_stress do
      pidfd = described_class.new(Process.pid)
      [0, 0.0, 0.01, 1e-300, Rational(1, 100)].each { |timeout| expect(pidfd.wait(timeout)).to be_nil }
    end

    it "takes any timeout that is a number from 0 on" do
      expect(said(<<~RUBY)).to eq(["true"] * 3)
        [Float::INFINITY, 1e300, 2**80].each do |timeout|
          pid = sh("exec sleep 60")
          pidfd = Pidfd.new(pid)
          waiter = Thread.new { pidfd.wait(timeout) }
          wait_until { waiter.stop? }
          Process.kill(:KILL, pid)
          say waiter.value.signaled?
        end
      RUBY
    end

    it "refuses other timeouts, also when the end is known" do
      pidfd = described_class.new(Process.pid)
      [-1, -0.1, Float::NAN].each do |timeout|
        expect { pidfd.wait(timeout) }
          .to raise_error(ArgumentError, "a timeout is a number of seconds from 0 on, or nil, got #{timeout}")
      end
      ["1", :a, Complex(1, 1), []].each do |timeout|
        expect { pidfd.cleanup(timeout) }
          .to raise_error(TypeError, "a timeout is a number of seconds or nil, got #{timeout.inspect} (#{timeout.class})")
      end
    end

    it "lets other threads run" do
      expect(said(<<~RUBY)).to eq(["true"])
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line", in: out))
        Thread.new { keep.close }
        say pidfd.wait.exited?
      RUBY
    end

    it "is interrupted by Thread#raise, Thread#kill and Timeout", :gc_stress do
      expect(said(<<~RUBY)).to eq(['"stop"', "nil", "Timeout::Error", "true", "0"])
        require "timeout"
        pidfd = Pidfd.new(Process.pid)
        100.times { pidfd.alive? }
        before = fds
        waiting = -> { Thread.new { Thread.current.report_on_exception = false; pidfd.wait }.tap { |t| wait_until { t.stop? } } }
        raised = waiting.call
        raised.raise("stop")
        say((raised.value rescue $!.message))
        say waiting.call.tap(&:kill).value
        say((Timeout.timeout(0.05) { pidfd.wait } rescue $!.class))
        say pidfd.alive?
        say fds - before
      RUBY
    end

    it "runs traps meanwhile and goes on waiting" do
      expect(said(<<~RUBY)).to eq(['"trapped"', "true"])
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line", in: out))
        trap("USR1") { say "trapped"; keep.close }
        main = Thread.current
        Thread.new { wait_until { main.stop? }; Process.kill("USR1", Process.pid) }
        say pidfd.wait.exited?
      RUBY
    end

    it "lets a trap that raises end it" do
      expect(said(<<~RUBY)).to eq(['"enough"'])
        pidfd = Pidfd.new(Process.pid)
        trap("USR1") { raise "enough" }
        main = Thread.current
        Thread.new { wait_until { main.stop? }; Process.kill("USR1", Process.pid) }
        say((pidfd.wait rescue $!.message))
      RUBY
    end

    it "serves many threads at once" do
      expect(said(<<~RUBY)).to eq(["[3]", "true", "0"])
        out, keep = IO.pipe
        pid = sh("read line; exit 3", in: out)
        pidfd = Pidfd.new(pid)
        100.times { pidfd.alive? }
        before = fds
        waiters = Array.new(20) { Thread.new { pidfd.wait } }
        wait_until { waiters.all?(&:stop?) }
        keep.close
        say waiters.map { |t| t.value.exitstatus }.uniq
        say Process.wait2(pid).last.exitstatus == 3
        say fds - before + 1
      RUBY
    end
  end

  describe "a process that is no child" do
    it "is waited for, and its end is told where the kernel keeps it" do
      expect(said(<<~RUBY)).to eq(["true", "nil", "true", keeps_record? ? "5" : "nil", (!keeps_record?).to_s, "false"])
        with_grandchild do |pid, finish|
          pidfd = Pidfd.new(pid)
          say pidfd.alive?, pidfd.wait(0)
          waiter = Thread.new { pidfd.wait }
          wait_until { waiter.stop? }
          finish.call
          status = waiter.value
          say status.pid == pid, status.exitstatus, status.unknown?, pidfd.alive?
        end
      RUBY
    end

    it "keeps one status from `cleanup` on" do
      expect(said(<<~RUBY)).to eq(["true", "true"])
        with_grandchild do |pid, finish|
          pidfd = Pidfd.new(pid)
          finish.call
          first = pidfd.cleanup
          say [pidfd.cleanup, pidfd.wait, pidfd.wait(0)].all? { |status| status.equal?(first) }, pidfd.closed?
        end
      RUBY
    end

    it "ends as unknown while its parent does not reap it" do
      expect(said(<<~RUBY)).to eq(["true", "false"])
        out, keep = IO.pipe
        told, tell = IO.pipe
        parent = fork do
          out.close_on_exec = true
          child = Process.spawn("/bin/sh", "-c", "exit 5")
          tell.puts(child)
          keep.close
          out.read
        end
        tell.close
        pidfd = Pidfd.new(told.gets.to_i)
        say pidfd.wait(5).unknown?, pidfd.alive?
        keep.close
        Process.wait(parent)
      RUBY
    end

    it "includes a child that other code has reaped" do
      expected = keeps_record? ? ['"exit 7"', '"SIGKILL (signal 9)"'] : ['"unknown"'] * 2
      expect(said(<<~'RUBY')).to eq(expected)
        ["exit 7", "kill -KILL $$"].each do |script|
          pid = sh(script)
          pidfd = Pidfd.new(pid)
          Process.wait(-1)
          say pidfd.cleanup.to_s.sub("pid #{pid} ", "")
        end
      RUBY
    end

    it "is told right while another thread reaps it at the same moment" do
      good = keeps_record? ? ["[7]"] : ["[7]", "[7, nil]", "[nil, 7]", "[nil]"]
      expect(good).to include(said(<<~RUBY).first)
        say(Array.new(200) do
          pid = sh("exit 7")
          pidfd = Pidfd.new(pid)
          reaper = Process.detach(pid)
          pidfd.cleanup.exitstatus.tap { reaper.join }
        end.uniq)
      RUBY
    end
  end

  describe "#cleanup" do
    it "reaps a child, closes the handle, and gives the same status from then on", :gc_stress do
      expect(said(<<~RUBY)).to eq(["3", "true", "true", "true", "Errno::ECHILD"])
        pid = sh("exit 3")
        pidfd = Pidfd.new(pid)
        status = pidfd.cleanup
        say status.exitstatus, pidfd.closed?
        say [pidfd.cleanup, pidfd.cleanup(0), pidfd.wait].all? { |later| later.equal?(status) }
        say !File.exist?("/proc/\#{pid}")
        say((Process.wait(pid) rescue $!.class))
      RUBY
    end

    it "leaves everything as it is at the timeout" do
      expect(said(<<~RUBY)).to eq(["nil", "false", "true", "9"])
        pid = sh("exec sleep 60")
        pidfd = Pidfd.new(pid)
        say pidfd.cleanup(0.01), pidfd.closed?, pidfd.signal("KILL"), pidfd.cleanup.termsig
      RUBY
    end

    it "reaps once and answers alike when many threads call it" do
      expect(said(<<~RUBY)).to eq(["[[3]]"])
        say(Array.new(50) do
          out, keep = IO.pipe
          pidfd = Pidfd.new(sh("read line; exit 3", in: out))
          threads = Array.new(8) { Thread.new { pidfd.cleanup } }
          keep.close
          out.close
          threads.map { |t| t.value.exitstatus }.uniq
        end.uniq)
      RUBY
    end

    it "gives the status also when another thread has cleaned up just before the wait" do
      expect(said(<<~'RUBY')).to eq(["[3, 3]", "true"])
        between = Module.new do
          attr_accessor :meanwhile
          def alive? = super.tap { meanwhile&.call.tap { self.meanwhile = nil } }
        end
        out, keep = IO.pipe
        child = Pidfd.new(sh("read line; exit 3", in: out)).extend(between)
        child.meanwhile = -> { child.meanwhile = nil; keep.close; @first = Thread.new { child.cleanup }.value }
        say [child.cleanup.exitstatus, @first.exitstatus]
        with_grandchild do |pid, finish|
          other = Pidfd.new(pid).extend(between)
          other.meanwhile = -> { other.meanwhile = nil; finish.call; @first = Thread.new { other.cleanup }.value }
          say other.cleanup.equal?(@first)
        end
      RUBY
    end

    it "goes on after it was interrupted" do
      expect(said(<<~RUBY)).to eq(["nil", "3"])
        require "timeout"
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line; exit 3", in: out))
        say((Timeout.timeout(0.05) { pidfd.cleanup } rescue nil))
        keep.close
        say pidfd.cleanup.exitstatus
      RUBY
    end
  end

  describe "#close" do
    it "closes once and for all", :gc_stress do
      pidfd = described_class.new(Process.pid)
      io = pidfd.to_io
      expect(pidfd.close).to be_nil
      expect(pidfd.close).to be_nil
      expect(pidfd).to be_closed
      expect(io).to be_closed
      %i[alive? wait cleanup to_io].each do |name|
        expect { pidfd.public_send(name) }.to raise_error(SwarmNative::ClosedHandle)
      end
    end

    it "wakes threads that wait with ClosedHandle, and gives every descriptor back", :gc_stress do
      expect(said(<<~RUBY)).to eq(["[SwarmNative::ClosedHandle]", "0"])
        before = fds
        pidfd = Pidfd.new(Process.pid)
        threads = Array.new(5) { Thread.new { Thread.current.report_on_exception = false; pidfd.wait } }
        wait_until { threads.all?(&:stop?) }
        pidfd.close
        say threads.map { |t| t.value rescue $!.class }.uniq
        say fds - before
      RUBY
    end

    it "never lets a waiter use a descriptor whose number was given away" do
      expect(said(<<~RUBY, deadline: 30)).to eq(["true"])
        say(Array.new(300) do
          pidfd = Pidfd.new(Process.pid)
          waiter = Thread.new { Thread.current.report_on_exception = false; pidfd.wait(5) }
          Thread.pass
          pidfd.close
          # Readable at once, and most likely with the numbers that were just given back.
          pipes = Array.new(4) { IO.pipe }
          pipes.each { |_, out| out.write("x") }
          closed = begin
            waiter.value
            false
          rescue ClosedHandle
            true
          end
          pipes.flatten.each(&:close)
          closed
        end.all?)
      RUBY
    end
  end

  describe "#to_io" do
    it "is readable once the process has ended" do
      expect(said(<<~RUBY)).to eq(["nil", "true", "true"])
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line", in: out))
        say IO.select([pidfd], nil, nil, 0)
        keep.close
        say IO.select([pidfd], nil, nil, 5) == [[pidfd], [], []]
        say pidfd.to_io.equal?(pidfd.to_io)
      RUBY
    end

    it "is made anew when somebody has closed it" do
      pidfd = described_class.new(Process.pid)
      pidfd.to_io.close
      expect(pidfd.to_io).not_to be_closed
      expect(pidfd).to be_alive
    end
  end

  describe "under a Fiber scheduler", :test_gems do
    def async(code)
      said("require 'async'\n#{code}", env: test_gems_env)
    end

    it "yields to other fibers while it waits" do
      expect(async(<<~RUBY)).to eq(["[:other, 3]", "nil"])
        order = []
        Async do |task|
          out, keep = IO.pipe
          pidfd = Pidfd.new(sh("read line; exit 3", in: out))
          waiter = task.async { order << pidfd.cleanup.exitstatus }
          task.async { order << :other; keep.close }
          waiter.wait
          say order
          say Pidfd.new(Process.pid).wait(0.01)
        end
      RUBY
    end

    it "serves many fibers at once, on one handle and on many" do
      expect(async(<<~RUBY)).to eq(["true"])
        Async do |task|
          handles = Array.new(20) do |i|
            out, keep = IO.pipe
            pidfd = Pidfd.new(sh("read line; exit \#{i}", in: out))
            out.close
            [pidfd, keep]
          end
          waiters = handles.map { |pidfd, _| Array.new(3) { task.async { pidfd.cleanup } } }
          handles.each { |_, keep| keep.close }
          say(waiters.map { |three| three.map { |waiter| waiter.wait.exitstatus } } == Array.new(20) { |i| [i] * 3 })
        end
      RUBY
    end

    it "wakes a fiber that waits when another one closes the handle" do
      expect(async(<<~RUBY)).to eq(["SwarmNative::ClosedHandle", "0"])
        Async do |task|
          before = fds
          pidfd = Pidfd.new(Process.pid)
          waiter = task.async { pidfd.wait rescue $!.class }
          task.async { pidfd.close }
          say waiter.wait
          say fds - before
        end
      RUBY
    end

    it "is ended by the scheduler's own timeout and stop" do
      expect(async(<<~RUBY)).to eq(["Async::TimeoutError", "true"])
        Async do |task|
          pidfd = Pidfd.new(Process.pid)
          say((task.with_timeout(0.01) { pidfd.wait } rescue $!.class))
          waiter = task.async { pidfd.wait }
          waiter.stop
          say waiter.stopped?
        end
      RUBY
    end
  end

  describe "in a forked process" do
    it "goes on standing for the same process, which is no child there" do
      expected = ["[true, nil, true]", keeps_record? ? "[3, false]" : "[nil, false]", '"parent 3"']
      expect(said(<<~'RUBY')).to eq(expected)
        $stdout.sync = true
        out, keep = IO.pipe
        target = sh("read line; exit 3", in: out)
        pidfd = Pidfd.new(target)
        ready, tell = IO.pipe
        child = fork do
          keep.close
          say [pidfd.alive?, pidfd.wait(0.01), pidfd.signal("CONT")]
          tell.puts
          status = pidfd.cleanup
          say [status.exitstatus, pidfd.alive?]
        end
        ready.gets
        keep.close
        # The child can only see an end that was reaped where the kernel keeps it.
        say "parent #{Pidfd.new(target).cleanup.exitstatus}".tap { Process.wait(child) }
      RUBY
    end

    it "is closed there without a word to whoever waits here" do
      expect(said(<<~'RUBY')).to eq(["0", "true", "4"])
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line; exit 4", in: out))
        waiter = Thread.new { pidfd.wait }
        wait_until { waiter.stop? }
        child = fork { pidfd.close }
        say Process.wait2(child).last.exitstatus
        # Nothing may keep the waiter busy either.
        before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
        waiter.join(0.2)
        say Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - before < 0.1
        keep.close
        say waiter.value.exitstatus
      RUBY
    end

    it "can be waited for there although somebody waits here" do
      expect(said(<<~'RUBY')).to eq(["0", "4"])
        out, keep = IO.pipe
        pidfd = Pidfd.new(sh("read line; exit 4", in: out))
        waiter = Thread.new { pidfd.wait }
        wait_until { waiter.stop? }
        child = fork do
          keep.close
          inner = Thread.new { pidfd.wait rescue $! }
          wait_until { inner.stop? }
          pidfd.close
          exit!(inner.value.is_a?(ClosedHandle) ? 0 : 1)
        end
        say Process.wait2(child).last.exitstatus
        keep.close
        say waiter.value.exitstatus
      RUBY
    end
  end

  describe "descriptors" do
    it "are closed in programs that are executed" do
      expect(said(<<~'RUBY')).to eq(["[]"])
        pidfd = Pidfd.new(Process.pid)
        100.times { pidfd.alive? }
        pidfd.to_io
        waiter = Thread.new { pidfd.wait }
        wait_until { waiter.stop? }
        inherited = IO.popen(["/bin/sh", "-c", "for fd in /proc/self/fd/*; do readlink $fd; done"], &:readlines)
        say inherited.grep(/pidfd|event/)
      RUBY
    end

    it "are all given back by 10,000 handles that nobody closes" do
      expect(said(<<~RUBY, deadline: 60)).to eq(["true"])
        before = fds
        10_000.times { |i| Pidfd.new(Process.pid).then { |pidfd| (i % 100).zero? ? pidfd.to_io : pidfd.wait(0) } }
        wait_until { GC.start; fds <= before + 10 }
        say true
      RUBY
    end

    it "are given back after each wait" do
      expect(said(<<~RUBY)).to eq(["0"])
        pidfd = Pidfd.new(Process.pid)
        100.times { pidfd.alive? }
        before = fds
        50.times { pidfd.wait(0.001) }
        say fds - before
      RUBY
    end
  end

  it "survives a collection at every allocation", :gc_stress do
    expect(said(<<~'RUBY')).to eq(["true"])
      pid = sh("exit 3")
      pidfd = Pidfd.new(pid)
      own = Pidfd.new(Process.pid)
      refused = [-> { Pidfd.new(nil) }, -> { Pidfd.new(-(2**70)) }, -> { Pidfd.new(2**70) }, -> { own.signal("x") },
                 -> { own.signal(:y) }, -> { own.signal(2**80) }, -> { own.signal([]) }, -> { own.wait("1") }]
      say(refused.all? { |call| begin; call.call; rescue ArgumentError, TypeError, SystemCallError => e; e.message; end } &&
          pidfd.wait.exitstatus == 3 && pidfd.to_io && own.wait(0.001).nil? && pidfd.cleanup.inspect &&
          pidfd.inspect && own.signal("CONT") && own.close.nil? && own.inspect.end_with?("closed>"))
    RUBY
  end

  it "inspects as its pid and state", :gc_stress do
    pid = Process.spawn("/bin/sh", "-c", "read line; exit 3", in: (pipe = IO.pipe).first)
    pidfd = described_class.new(pid)
    closed = described_class.new(pid).tap(&:close)
    seen = [pidfd.inspect]
    pipe.each(&:close)
    wait_until { !pidfd.alive? }
    seen << pidfd.inspect
    pidfd.cleanup
    expect([*seen, pidfd.inspect, closed.inspect])
      .to eq(%w[alive ended exit\ 3 closed].map { |state| "#<SwarmNative::Pidfd pid=#{pid} #{state}>" })
  end
end
