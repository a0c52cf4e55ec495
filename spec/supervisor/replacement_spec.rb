# frozen_string_literal: true

require_relative "../spec_helper"
require "etc"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "replaces" do
  # Runs a swarm of one node until it has been ready twice, and prints what was told from the first time on.
  def told_between_two_nodes(settings, fault:, work: "WORK.call(node)", deadline: 10)
    result = run_swarm(<<~RUBY, deadline: deadline)
      swarm = supervisor(#{settings})
      told = record(swarm)
      count = 0
      swarm.on(:node_ready) do |event|
        count += 1
        count == 1 ? (#{fault}) : swarm.stop
      end
      first = nil
      swarm.run { |node| #{work} }
      told.each { |event| puts [event.name, event.node_id, event.reason, event.exit_status&.then { |s| s.termsig || s.exitstatus }, event.restart_in&.round(1)].compact.join(" ") }
    RUBY
    expect(result).to be_success, result.inspect
    lines = result.out.lines(chomp: true)
    lines[(lines.index { |line| line.start_with?("node_ready") } + 1)...lines.index { |line| line.start_with?("stopping") }]
  end

  it "a node killed with SIGKILL, at once" do
    expect(told_between_two_nodes("", fault: "Process.kill(:KILL, event.pid)"))
      .to eq(["node_exited 0 killed 9 0.0", "node_started 0", "node_ready 0"])
  end

  it "a node whose block raises, at once" do
    expect(told_between_two_nodes("", fault: "File.write('pid', event.pid)", work: <<~RUBY))
      node.ready
      wait_until(5) { File.exist?("pid") }
      raise "broken" if File.read("pid").to_i == node.pid
      WORK.call(node)
    RUBY
      .to eq(["node_exited 0 crashed 1 0.0", "node_started 0", "node_ready 0"])
  end

  it "a node that reports a code above 0, after it has stopped it" do
    expect(told_between_two_nodes("", fault: "File.write('pid', event.pid)", work: <<~RUBY))
      node.ready
      wait_until(5) { File.exist?("pid") }
      node.unhealthy(7) if File.read("pid").to_i == node.pid
      node.wait until node.stopping?
    RUBY
      .to eq(["node_unhealthy 0 unhealthy(7)", "node_stopping 0 unhealthy(7)", "node_exited 0 unhealthy(7) 0 0.0",
              "node_started 0", "node_ready 0"])
  end

  it "a frozen node at its deadline: told, continued, and gone" do
    expect(told_between_two_nodes("report_timeout: 0.3", fault: "Process.kill(:STOP, event.pid)"))
      .to eq(["node_unhealthy 0 hung", "node_stopping 0 hung", "node_exited 0 hung 0 0.0", "node_started 0",
              "node_ready 0"])
  end

  it "a node that holds the GVL in C code at its deadline, and kills it as it cannot listen" do
    told = told_between_two_nodes("report_timeout: 0.3, shutdown_timeout: 0.2",
                                 fault: "File.write('pid', event.pid)", work: <<~RUBY)
      node.ready
      wait_until(5) { File.exist?("pid") }
      hold_the_gvl if File.read("pid").to_i == node.pid
      node.wait until node.stopping?
    RUBY
    expect(told).to eq(["node_unhealthy 0 hung", "node_stopping 0 hung", "node_killed 0 hung", "node_exited 0 hung 9 0.0",
                        "node_started 0", "node_ready 0"])
  end

  it "a node that never becomes ready at boot_timeout, after a backoff" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(ready: :manual, boot_timeout: 0.2, backoff_min: 0.1)
      told = record(swarm)
      swarm.on(:node_exited) { swarm.stop }
      swarm.run { |node| node.wait until node.stopping? }
      told.each { |event| puts [event.name, event.reason, event.restart_in && (0.08..0.12).cover?(event.restart_in)].compact.join(" ") }
    RUBY
    expect(result.out).to eq(<<~TEXT)
      node_started
      node_unhealthy boot_timeout
      node_stopping boot_timeout
      node_exited boot_timeout true
      stopping
      stopped
    TEXT
  end

  it "a node that dies at boot after longer and longer delays, and tells of the crash loop once" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(backoff_min: 0.01, backoff_max: 0.05)
      told = record(swarm)
      exits = 0
      swarm.on(:node_exited) { swarm.stop if (exits += 1) == 8 }
      swarm.run { exit!(9) }
      delays = told.select { |event| event.name == :node_exited }.map(&:restart_in)
      puts delays.each_cons(2).first(2).all? { |one, next_one| next_one > one * 1.2 }
      puts delays.all? { |delay| delay <= 0.05 }
      puts told.select { |event| event.name == :crash_loop }.map(&:to_s).first[/is in a crash loop.*\)/]
      puts told.count { |event| event.name == :crash_loop }
    RUBY
    expect(result.out).to eq("true\ntrue\nis in a crash loop: its last process ended crashed (exit 9)\n1\n")
  end

  it "nothing more after a crash loop where the policy says so, and run raises" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(backoff_min: 0.001, on_crash_loop: :stop, crash_loop_limit: 3)
      begin
        swarm.run { exit!(9) }
      rescue SwarmNative::Error => e
        puts e.message
      end
    RUBY
    expect(result.out).to eq("node 0 is in a crash loop, which ends the swarm (on_crash_loop: :stop)\n")
  end

  it "nobody who is busy but reports, however short the deadline" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(report_interval: 0.05, report_timeout: 1)
      told = record(swarm)
      thread = in_background(swarm) do |node|
        node.ready
        deadline = now + 2.5
        nil while now < deadline
        File.write("worked", "")
        node.wait until node.stopping?
      end
      wait_until(10) { File.exist?("worked") }
      swarm.stop
      thread.join
      puts told.map(&:name).inspect
    RUBY
    expect(result.out).to eq("[:node_started, :node_ready, :stopping, :node_stopping, :node_exited, :stopped]\n")
  end

  it "a node that goes silent where reporting is left to the block" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(report: :manual, report_timeout: 0.3)
      told = record(swarm)
      swarm.on(:node_exited) { swarm.stop }
      swarm.run do |node|
        node.ready
        5.times { node.healthy; node.wait(0.1) }
        node.wait until node.stopping?
      end
      silent = told.find { |event| event.name == :node_unhealthy }
      ready = told.find { |event| event.name == :node_ready }
      puts silent.reason, (0.6..3.0).cover?(silent.time - ready.time)
    RUBY
    expect(result.out).to eq("hung\ntrue\n")
  end

  it "a node that ends by itself with 0 only after the time in which the same stop may arrive" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(settle: 0.2)
      told = record(swarm)
      exits = 0
      swarm.on(:node_exited) { swarm.stop if (exits += 1) == 2 }
      swarm.run { |node| node.ready }
      first = told.find { |event| event.name == :node_exited }
      second = told.select { |event| event.name == :node_started }[1]
      puts first.reason, first.restart_in, second.time - first.time >= 0.19
    RUBY
    expect(result.out).to eq("exited\n0.2\ntrue\n")
  end

  it "nobody whose work is done where the policy says so, and ends with the last of them" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 3, on_normal_exit: :leave)
      told = record(swarm)
      swarm.run { |node| node.ready }
      puts told.map(&:name).tally.slice(:node_started, :node_exited).inspect
    RUBY
    expect(result.out).to eq("{:node_started=>3, :node_exited=>3}\n").or eq("{node_started: 3, node_exited: 3}\n")
  end

  it "nodes whose ends other code in the process takes, and knows how they ended where the kernel tells" do
    result = run_swarm(<<~'RUBY')
      thief = Thread.new { loop { Process.wait(-1) rescue Thread.pass } }
      swarm = supervisor
      told = record(swarm)
      count = 0
      swarm.on(:node_ready) { |event| (count += 1) > 20 ? swarm.stop : Process.kill(:KILL, event.pid) }
      swarm.run(&WORK)
      ends = told.select { |event| event.name == :node_exited }.first(20)
      puts ends.size, ends.map { |event| [event.reason, event.exit_status.termsig] }.uniq.inspect
      thief.kill
    RUBY
    kernel = Etc.uname[:release].split(".").first(2).map(&:to_i)
    known = (kernel <=> [6, 15]) >= 0
    expect(result.out).to eq(known ? %(20\n[["killed", 9]]\n) : result.out)
    expect(result.out).to start_with("20\n")
  end

  it "nodes in a process that ignores SIGCHLD" do
    result = run_swarm(<<~'RUBY')
      trap("CLD", "IGNORE")
      swarm = supervisor
      count = 0
      swarm.on(:node_ready) { |event| (count += 1) > 5 ? swarm.stop : Process.kill(:KILL, event.pid) }
      swarm.run(&WORK)
      puts count
    RUBY
    expect(result.out).to eq("6\n")
  end
end
