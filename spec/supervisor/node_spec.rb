# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Node do
  # Runs `code` in a node, and returns what it printed.
  def in_node(code, settings = "")
    run_swarm(<<~RUBY).out
      swarm = supervisor(#{settings})
      swarm.on(:node_exited) { swarm.stop }
      swarm.run do |node|
        #{code}
      end
    RUBY
  end

  it "knows itself" do
    expect(in_node('node.ready; puts node.id, node.pid == Process.pid, node.inspect.sub(/\d{2,}/, "N")'))
      .to eq("0\ntrue\n#<SwarmNative::Node 0 (pid N)>\n")
  end

  it "waits until it is told to stop, in any number of threads, or until the time is over" do
    expect(in_node(<<~'RUBY')).to eq("false\ntrue\n[true, true, true]\n")
      node.ready
      start = now
      puts node.wait(0.1), now - start >= 0.1
      threads = Array.new(3) { Thread.new { node.wait } }
      Process.kill(:TERM, node.pid)
      puts threads.map(&:value).inspect
    RUBY
  end

  it "returns from wait at once when it is stopping, however often it is asked" do
    expect(in_node("node.ready; Process.kill(:TERM, node.pid); node.wait; puts Array.new(3) { node.wait(60) }.inspect"))
      .to eq("[true, true, true]\n")
  end

  it "returns from wait once when it becomes quiet, and then waits for the stop" do
    expect(in_node(<<~'RUBY')).to eq("true\nfalse\nfalse\n")
      node.ready
      Process.kill(:TSTP, node.pid)
      puts node.wait(5), node.wait(0.05), node.stopping?
    RUBY
  end

  it "is woken at once while its main thread works and another waits" do
    expect(in_node(<<~'RUBY')).to eq("true\n")
      node.ready
      waiter = Thread.new { node.wait; now }
      told = nil
      Thread.new { sleep 0.05; told = now; Process.kill(:TERM, node.pid) }
      deadline = now + 3
      nil while waiter.alive? && now < deadline
      puts waiter.value - told < 1
    RUBY
  end

  it "refuses codes that are none" do
    expect(in_node(<<~'RUBY')).to eq(<<~TEXT)
      node.ready
      [0, -1, 1.5, nil, "3", 2**32].each do |code|
        node.unhealthy(code)
      rescue ArgumentError => e
        puts e.message
      end
    RUBY
      code: 0 given, allowed: an Integer from 1 to 4294967295
      code: -1 given, allowed: an Integer from 1 to 4294967295
      code: 1.5 given, allowed: an Integer from 1 to 4294967295
      code: nil given, allowed: an Integer from 1 to 4294967295
      code: "3" given, allowed: an Integer from 1 to 4294967295
      code: 4294967296 given, allowed: an Integer from 1 to 4294967295
    TEXT
  end

  it "never blocks on a full pipe, and keeps the worst code until there is room" do
    result = run_swarm(<<~'RUBY', deadline: 20)
      swarm = supervisor(report: :manual)
      told = record(swarm)
      swarm.on(:node_exited) { swarm.stop }
      # The supervisor does not read while its listener is busy.
      swarm.on(:node_ready) { wait_until(10) { File.exist?("full") } }
      swarm.run do |node|
        node.ready
        wait_until(5) { File.read("/proc/#{Process.ppid}/stat") }
        200_000.times { node.healthy }
        node.unhealthy(5)
        200_000.times { node.healthy }
        File.write("full", "")
        until node.stopping?
          node.healthy
          node.wait(0.01)
        end
      end
      puts told.select { |event| event.name == :node_unhealthy }.map(&:reason)
    RUBY
    expect(result.out).to eq("unhealthy(5)\n")
  end

  it "does not speak for a process that it forked" do
    expect(in_node(<<~'RUBY')).to match(/\Anode 0 is process \d+, and this is its child \d+\n\z/)
      node.ready
      Process.wait(fork do
        node.healthy
      rescue SwarmNative::StaleHandle => e
        puts e.message
      end)
    RUBY
  end

  it "stops once, told any number of times by whomever" do
    expect(in_node(<<~'RUBY')).to eq("true\ndone\n")
      node.ready
      %i[TERM INT QUIT TERM].each { |signal| Process.kill(signal, node.pid) }
      node.wait
      puts node.stopping?, "done"
    RUBY
  end
end
