# frozen_string_literal: true

require_relative "../support/pidfd_process"

RSpec.describe SwarmNative::Pidfd, "waits" do
  include PidfdProcess

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
end
