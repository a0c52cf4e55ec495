# frozen_string_literal: true

require_relative "../support/pidfd_process"

RSpec.describe SwarmNative::Pidfd do
  include PidfdProcess

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
