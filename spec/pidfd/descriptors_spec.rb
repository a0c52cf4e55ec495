# frozen_string_literal: true

require_relative "../support/pidfd_process"

RSpec.describe SwarmNative::Pidfd, "and its descriptors" do
  include PidfdProcess

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
end
