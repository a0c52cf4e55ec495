# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  RSpec.describe "the drop-in on Karafka #{version}", :karafka, :kafka, :test_gems do
    define_method(:run_app) { |*args, **options, &block| run_karafka(*args, version: version, **options, &block) }

    it "consumes in as many nodes as are set, and stops on TERM with exit code 0 and Karafka's events in order" do
      topic = new_topic(partitions: 2)
      produce(topic, 10)
      result = run_app(nodes: 2, topic: topic) do |app|
        app.wait_until_fetching(2)
        wait_until(KarafkaApp::PATIENCE, "all messages") { app.lines("consumed").map { |line| line.split[2] }.uniq.size == 10 }
        expect(app.children).to match_array(app.fetching)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.err).to eq("")
      supervisor = result.status.pid
      told = result.out.lines.map(&:split).select { |_, pid| pid == supervisor.to_s }.map { |name, _, details| [name, *details] }
      told.reject! { |name, details| name == "process.notice_signal" && details == "SIGCHLD" }
      expect(told).to eq([
        %w[swarm.manager.before_fork 0], %w[swarm.manager.after_fork 0],
        %w[swarm.manager.before_fork 1], %w[swarm.manager.after_fork 1],
        %w[app.supervising], %w[process.notice_signal SIGTERM],
        %w[app.stopping], %w[app.stopped], %w[app.terminated]
      ])
    end

    it "replaces a node killed with SIGKILL at once, and says why it ended" do
      result = run_app(nodes: 1) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        # Plain Karafka takes 30 s.
        wait_until(15, "a replacement") { app.children.any? { |pid| pid != first } }
        expect(app.wait_until_fetching(2)).to eq([first, *app.children])
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to match(/^native\.node_exited \d+ killed .*\(SIGKILL\), replaced at once/)
    end
  end
end
