# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  RSpec.describe "the drop-in on Karafka #{version}", :kafka, :test_gems, karafka: version do
    it "consumes in as many nodes as are set, and stops on TERM with exit code 0 and Karafka's events in order" do
      topic = new_topic(partitions: 2)
      produce(topic, 10)
      result = run_karafka(nodes: 2, topic: topic) do |app|
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
  end
end
