# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "#on" do
  it "tells of a node's whole life in order, with frozen events" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor
      told = record(swarm)
      swarm.on(:node_ready) { swarm.stop }
      swarm.run(&WORK)
      puts told.map(&:name).inspect, told.all?(&:frozen?)
      exited = told.find { |event| event.name == :node_exited }
      puts exited.exit_status.class, exited.pid == told.first.pid, exited.duration.class, exited.restart_in.inspect
    RUBY
    expect(result.out.lines.first)
      .to eq("[:node_started, :node_ready, :stopping, :node_stopping, :node_exited, :stopped]\n")
    expect(result.out.lines.drop(1).join).to eq("true\nSwarmNative::ExitStatus\ntrue\nFloat\nnil\n")
  end

  it "survives a listener that raises, also one of errors, and tells of it" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor
      errors = []
      swarm.on(:node_started) { raise "broken listener" }
      swarm.on(:error) { |event| errors << event.message; raise "broken too" }
      swarm.on(:node_ready) { swarm.stop }
      swarm.run(&WORK)
      puts errors
    RUBY
    expect(result.out).to eq("a listener of node_started raised: broken listener (RuntimeError)\n")
    expect(result).to be_success
  end

  it "logs a line an event to the logger, by its weight" do
    result = run_swarm(<<~'RUBY')
      require "logger"
      SwarmNative.logger = Logger.new($stdout, formatter: ->(severity, _, _, message) { "#{severity} #{message}\n" })
      swarm = supervisor(report_timeout: 0.3)
      exits = 0
      swarm.on(:node_ready) { |event| Process.kill(:STOP, event.pid) if exits.zero? }
      swarm.on(:node_exited) { swarm.stop if (exits += 1) == 1 }
      swarm.run(&WORK)
    RUBY
    lines = result.out.gsub(/\d+ ms|\d+\.\d+ s/, "TIME").gsub(/pid \d+/, "pid PID").lines(chomp: true)
    expect(lines.first(5)).to eq(
      ["INFO node 0 (pid PID) started", "INFO node 0 (pid PID) ready after TIME", "WARN node 0 (pid PID) unhealthy: hung; it is frozen (SIGSTOP)",
       "INFO node 0 (pid PID) told to stop: hung", "INFO node 0 (pid PID) ended after TIME: hung (exit 0), replaced at once"]
    )
    expect(lines).to include("INFO swarm stops")
    expect(lines.last).to eq("INFO swarm has stopped")
  end

  it "shows the core's own log on stderr when asked to, and says what it can be asked for" do
    program = "swarm = supervisor; swarm.on(:node_ready) { swarm.stop }; swarm.run(&WORK)"
    expect(run_swarm(program).err).to eq("")
    expect(run_swarm(program, env: { "SWARM_NATIVE_LOG" => "debug" }).err)
      .to match(/INFO.*node=0.*node_started/).and match(/DEBUG.*signal.*SIGTERM/)
    expect(run_swarm(program, env: { "SWARM_NATIVE_LOG" => "loud" }).err)
      .to eq("SWARM_NATIVE_LOG: loud given, allowed: error, warn, info, debug, trace or off\n")
  end

  it "says for each end how it came" do
    status = ->(raw) { SwarmNative::ExitStatus.new(7, raw) }
    event = lambda do |**values|
      SwarmNative::Event.new(name: :node_exited, node_id: 1, pid: 7, duration: 0.0123, **values).to_s
    end
    expect(event.call(reason: "killed", exit_status: status.call(9), restart_in: 0.0))
      .to eq("node 1 (pid 7) ended after 12 ms: killed (SIGKILL), replaced at once")
    expect(event.call(reason: "crashed", exit_status: status.call(256), restart_in: 1.53))
      .to eq("node 1 (pid 7) ended after 12 ms: crashed (exit 1), replaced in 1.5 s")
    expect(event.call(reason: "unknown", exit_status: status.call(nil)))
      .to eq("node 1 (pid 7) ended after 12 ms: unknown (status unknown)")
  end
end

RSpec.describe SwarmNative::Supervisor, "#nodes" do
  it "says what is known of each node" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2)
      thread = in_background(swarm)
      all_ready(swarm)
      Process.kill(:KILL, old = ready_pid(swarm))
      ready_pid(swarm, old)
      wait_until(5) { swarm.nodes[0].last_report_at }
      node = swarm.nodes[0]
      puts node.frozen?, node.id, node.state, node.restarts, node.last_reason, node.last_exit.pid == old, node.last_exit.termsig
      puts (Time.now - node.started_at).between?(0, 10), (Time.now - node.last_report_at).between?(0, 10)
      puts node.last_report, node.reports >= 1
      puts swarm.nodes[1].last_exit.inspect, swarm.nodes[1].restarts
      # Since it is ready, which is a little later than it was forked.
      puts (node.since - node.started_at).between?(0, 10), node.since <= Time.now
      swarm.stop
      thread.join
      puts swarm.nodes.map(&:state).inspect
    RUBY
    expect(result.out).to eq("true\n0\nready\n1\nkilled\ntrue\n9\ntrue\ntrue\n0\ntrue\nnil\n0\ntrue\ntrue\n[:idle, :idle]\n")
  end

  it "says when the next process of a waiting node is due" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(backoff_min: 20)
      thread = in_background(swarm) { exit!(1) }
      wait_until(10) { swarm.nodes[0].state == :waiting }
      puts (swarm.nodes[0].restart_at - Time.now).between?(10, 25), swarm.nodes[0].pid.inspect
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("true\nnil\n")
  end

  it "grows and shrinks as asked" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 1)
      thread = in_background(swarm)
      all_ready(swarm)
      swarm.scale(3)
      wait_until(10) { swarm.nodes.map(&:state) == %i[ready ready ready] }
      swarm.scale(2)
      wait_until(10) { swarm.nodes.map(&:state) == %i[ready ready idle] }
      swarm.stop
      thread.join
      puts "scaled"
    RUBY
    expect(result.out).to eq("scaled\n")
  end
end
