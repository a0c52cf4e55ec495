# frozen_string_literal: true

require "tmpdir"
require "#{ROOT}/examples/demo/chaos"
require "#{ROOT}/examples/demo/fleet"
require "#{ROOT}/examples/demo/ledger"

RSpec.describe "the demo's faults" do
  around { |example| Dir.mktmpdir("swarm-faults") { |folder| @folder = folder and example.run } }

  def event(name, pid, time, node: 2, reason: nil)
    { "name" => name, "node_id" => node, "pid" => pid, "time" => time, "reason" => reason }
  end

  def batch(pid, time, results = [[1, 1]], node: 2)
    Demo::LedgerReader::Batch.new(node, pid, time, results)
  end

  describe Demo::Fault do
    let(:fault) { described_class.new(:freeze, 2, 100).tap { |fault| fault.struck(10.0) } }

    it "measures from the strike to the notice, the replacement and its first message" do
      fault.event(event("node_unhealthy", 100, 11.5, reason: "hung"))
      fault.event(event("node_stopping", 100, 11.5, reason: "hung"))
      fault.event(event("node_exited", 100, 12.0, reason: "hung"))
      fault.event(event("node_started", 200, 12.25))
      fault.batch(batch(100, 12.3))
      fault.batch(batch(200, 12.5, []))
      expect([fault.repaired?, fault.unrepaired_since]).to eq([false, 10.0])
      fault.batch(batch(200, 13.0))
      fault.batch(batch(200, 14.0))
      expect([fault.detected, fault.replaced, fault.first_message]).to eq([1.5, 2.25, 3.0])
      expect([fault.reason, fault.replacement, fault.repaired?]).to eq(["hung", 200, true])
      expect(fault.unrepaired_since).to be_nil
    end

    it "does not count what happens to other nodes" do
      fault.event(event("node_exited", 300, 11.0, node: 1))
      fault.event(event("node_started", 301, 11.0, node: 1))
      expect([fault.detected, fault.replaced]).to eq([nil, nil])
    end

    it "does not take a second process of a slot for a replacement while the first one is there" do
      fault.event(event("node_unhealthy", 100, 11.5))
      fault.event(event("node_started", 200, 11.6))
      expect(fault.replaced).to be_nil
    end
  end

  describe Demo::Chaos do
    def plan(seed, nodes)
      described_class.new(@folder, nodes, seed).instance_variable_get(:@plan)
    end

    it "is repeated by its seed" do
      expect(plan(7, 4)).to eq(plan(7, 4))
      expect((1..20).map { |seed| plan(seed, 4) }.uniq.size).to eq(20)
    end

    it "strikes with each kind once, each node once where there are enough" do
      expect(plan(7, 8).map(&:first)).to match_array(%i[kill freeze crash silence])
      expect(plan(7, 4).map { |_, node| node }).to match_array([0, 1, 2, 3])
      expect(plan(7, 2).map { |_, node| node }).to match_array([0, 0, 1, 1])
      expect(plan(7, 1).map { |_, node| node }).to eq([0, 0, 0, 0])
    end

    it "has faults pending until the last one is repaired" do
      expect(described_class.new(@folder, 4, 7).pending).to eq(4)
    end
  end

  describe Demo::Misfortune do
    it "holds the GVL in a call that ends by itself" do
      result = run_ruby(<<~RUBY)
        require "#{ROOT}/examples/demo/chaos"
        ticks = 0
        Thread.new { loop { sleep 0.001 and ticks += 1 } }
        wait_until { ticks.positive? }
        heard = 0
        trap("WINCH") { heard += 1 }
        # A signal amid the call, which does not end it.
        pid = spawn("sleep 0.1; kill -WINCH \#{Process.pid}")
        before, start = ticks, Process.clock_gettime(Process::CLOCK_MONOTONIC)
        Demo::Misfortune.hold_gvl(0.4)
        took = Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
        print ticks - before, " ", took > 0.399, " "
        Process.wait(pid)
        print heard
      RUBY
      expect(result).to be_success, result.inspect
      # A thread that had the GVL in between would have ticked hundreds of times.
      expect(result.out).to match(/\A[012] true 1\z/)
    end

    it "crashes the node that is told to, once, and tells when" do
      result = run_ruby(<<~RUBY, args: [@folder])
        require "#{ROOT}/examples/demo/chaos"
        misfortune = Demo::Misfortune.new(ARGV[0])
        misfortune.befall
        Demo::Misfortune.order(ARGV[0], Process.pid, :crash)
        begin
          misfortune.befall
        rescue RuntimeError => e
          puts e.message
        end
        misfortune.befall
        struck = Demo::Misfortune.struck_at(ARGV[0], Process.pid)
        puts struck.between?(Demo::Clock.now - 5, Demo::Clock.now)
      RUBY
      expect(result.out).to eq("the demo crashes this node\ntrue\n"), result.inspect
    end
  end

  describe Demo::Fleet do
    let(:fleet) { described_class.new(3) }
    let(:node) { fleet.nodes[2] }

    it "follows a node through its processes" do
      expect(node.state).to eq("booting")
      [["node_started", 100], ["node_ready", 100]].each { |name, pid| fleet.event(event(name, pid, 1.0)) }
      expect([node.state, node.pid, node.restarts]).to eq(["ready", 100, 0])
      fleet.event(event("node_unhealthy", 100, 2.0, reason: "hung"))
      expect(node.state).to eq("hung")
      [["node_exited", 100], ["node_started", 200]].each { |name, pid| fleet.event(event(name, pid, 3.0)) }
      expect([node.state, node.pid, node.restarts]).to eq(["booting", 200, 1])
    end

    it "has a node at work that is ready and has just finished a batch, until it is struck" do
      [["node_started", 100], ["node_ready", 100]].each { |name, pid| fleet.event(event(name, pid, 1.0)) }
      expect(fleet.at_work(1.5)).to eq({})
      fleet.batch(batch(100, 1.4, [[1, 1], [2, 2]]))
      expect(fleet.at_work(1.5)).to eq(2 => 100)
      expect(fleet.at_work(3.0)).to eq({})
      node.struck
      expect(fleet.at_work(1.5)).to eq({})
      expect(node.processed).to eq(2)
    end
  end
end
