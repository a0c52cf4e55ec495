# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "in chaos" do
  it "adds up after a minute of strikes: a start has one end, nobody and nothing is left" do
    seed = rand(1_000_000)
    result = run_ruby(<<~RUBY, deadline: 120)
      ARGV.replace(%w[--seconds 60 --seed #{seed}])
      load "#{ROOT}/chaos/main.rb"
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to include("everything adds up")
  end

  it "stops at the last TERM of a storm of signals over nodes that are being replaced" do
    result = run_swarm(<<~'RUBY', deadline: 60)
      # What the supervisor puts back when it has stopped, in the middle of the storm.
      %w[HUP TTIN TSTP TERM].each { |signal| trap(signal) {} }
      swarm = supervisor(nodes: 3, settle: 0.01)
      thread = in_background(swarm) do |node|
        node.ready
        node.wait(0.05)
      end
      all_ready(swarm)
      random = Random.new(7)
      5_000.times { Process.kill(%w[HUP TTIN WINCH CONT].sample(random: random), Process.pid) }
      Process.kill(:TERM, Process.pid)
      5_000.times { Process.kill(%w[HUP TTIN TSTP TERM].sample(random: random), Process.pid) }
      returned = thread.value
      puts returned.class, children
    RUBY
    # TERMs that came more than a second after the first are a kill.
    expect(result.out).to eq("SwarmNative::Supervisor\n0\n").or eq("SwarmNative::ForcefulShutdown\n0\n")
  end

  it "never signals the process that got the pid of one that it knew" do
    skip "a pid namespace needs root" unless Process.uid.zero?

    result = run_ruby(<<~'RUBY', library: "json")
      code = <<~'INNER'
        require "swarm_native"
        child = fork { sleep }
        handle = SwarmNative::Pidfd.new(child)
        Process.kill(:KILL, child)
        Process.wait(child)
        File.write("/proc/sys/kernel/ns_last_pid", (child - 1).to_s)
        stranger = fork { sleep }
        puts stranger == child, handle.signal(:KILL), handle.alive?
        puts Process.wait(stranger, Process::WNOHANG).inspect
        Process.kill(:KILL, stranger)
        Process.wait(stranger)
      INNER
      load_path = $LOAD_PATH.flat_map { |path| ["-I", path] }
      system("unshare", "--pid", "--fork", "--kill-child", RbConfig.ruby, *load_path, "-e", code, exception: true)
    RUBY
    expect(result.out).to eq("true\nfalse\nfalse\nnil\n")
  end

  it "reads no clock but the monotonic one" do
    sources = Dir["#{ROOT}/ext/swarm_core/src/{node,fleet,backoff,policy,report}.rs", "#{ROOT}/ext/swarm_core/src/os/*.rs",
                  "#{ROOT}/ext/swarm_native/src/supervisor.rs"] - ["#{ROOT}/ext/swarm_core/src/os/fork.rs"]
    expect(sources.size).to be > 12
    expect(sources.select { |file| File.read(file).match?(/SystemTime|CLOCK_REALTIME|gettimeofday/) }).to eq([])
    ruby = Dir["#{ROOT}/lib/swarm_native/{supervisor,node,event,traps}.rb"].to_h { |file| [File.basename(file), File.read(file)] }
    # Snapshots tell people the time of day; nothing is decided by it.
    expect(ruby.transform_values { |text| text.scan("Time.now").size }.reject { |_, count| count.zero? }).to eq("supervisor.rb" => 1)
  end
end
