# frozen_string_literal: true

require_relative "../support/pidfd_process"

RSpec.describe SwarmNative::Pidfd, "and fibers" do
  include PidfdProcess

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
end
