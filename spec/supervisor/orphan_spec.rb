# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "whose process is killed" do
  # Kills a supervisor whose node does `work`, adopts the orphan as a subreaper, and prints how it ended and how soon.
  def orphan(work, settings = "")
    run_swarm(<<~RUBY, deadline: 30)
      require "fiddle"
      prctl = Fiddle::Function.new(Fiddle::Handle::DEFAULT["prctl"], [Fiddle::TYPE_INT] + [Fiddle::TYPE_LONG] * 4, Fiddle::TYPE_INT)
      prctl.call(36, 1, 0, 0, 0) # PR_SET_CHILD_SUBREAPER: the orphan becomes our child
      parent = fork { supervisor(#{settings}).run { |node| File.write("pid", node.pid); node.ready; #{work} } }
      pid = wait_until(10) { File.exist?("pid") && File.read("pid").to_i.nonzero? }
      wait_until(10) { File.exist?("begun") }
      handle = SwarmNative::Pidfd.new(pid)
      Process.kill(:KILL, parent)
      Process.wait(parent)
      killed = now
      handle.wait(10)
      took = now - killed
      puts handle.cleanup.exitstatus.inspect, (took * 1000).round
    RUBY
  end

  {
    "sleeps" => "File.write('begun', ''); sleep",
    "burns CPU in Ruby" => "File.write('begun', ''); loop {}",
    "holds the GVL in C code" => "File.write('begun', ''); hold_the_gvl",
    "ignores every signal" => "%w[TERM INT QUIT HUP].each { |s| trap(s, 'IGNORE') }; File.write('begun', ''); sleep"
  }.each do |what, work|
    it "leaves no node behind that #{what}: it is gone in milliseconds, with exit code 3" do
      code, milliseconds = orphan(work).out.lines.map(&:to_i)
      expect(code).to eq(3)
      expect(milliseconds).to be < 250 # the benchmark measures it; this is a busy machine's limit
    end
  end

  it "lets a node know first, and leaves it `orphan:` seconds" do
    result = orphan(<<~'WORK', "orphan: 0.5")
      File.write("begun", "")
      node.wait until node.stopping?
      File.write("told", node.orphaned?.to_s)
      sleep
    WORK
    code, milliseconds = result.out.lines.map(&:to_i)
    expect(code).to eq(3)
    expect(milliseconds).to be_between(490, 1500)
  end

  it "lets a node end by itself within `orphan:` seconds" do
    result = orphan(<<~'WORK', "orphan: 20")
      File.write("begun", "")
      node.wait until node.stopping?
      exit(node.orphaned? ? 7 : 8)
    WORK
    code, milliseconds = result.out.lines.map(&:to_i)
    expect(code).to eq(7)
    expect(milliseconds).to be < 5000
  end

  it "leaves no child that was just forked and waits for go" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      module Slow
        def _fork
          super.tap do |pid|
            next if pid.zero?

            File.write("child", pid)
            # The child is in its wait for go by then, which never comes.
            wait_until(5) { File.read("/proc/#{pid}/wchan").include?("poll") }
            Process.kill(:KILL, Process.pid)
          end
        end
      end
      parent = fork do
        Process.singleton_class.prepend(Slow)
        supervisor.run { File.write("ran", "") }
      end
      Process.wait(parent)
      child = File.read("child").to_i
      wait_until(5) { !alive?(child) }
      puts $?.termsig, File.exist?("ran")
    RUBY
    expect(result.out).to eq("9\nfalse\n")
  end
end
