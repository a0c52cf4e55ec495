# frozen_string_literal: true

require_relative "../spec_helper"

RSpec.describe "docs/supervision.md" do
  page = File.read(File.join(ROOT, "docs/supervision.md"))

  it "has each setting as the code has it" do
    rows = SwarmNative::Supervisor.settings.map do |name, default, allowed, reason|
      "| `#{name}` | #{default} | #{allowed} | #{reason} |"
    end
    expect(page[/^\| `nodes`.*?\n\n/m].lines(chomp: true) - [""]).to eq(rows)
  end

  it "has each state and each reason that the code has" do
    rust = ->(file) { File.read(File.join(ROOT, "ext/swarm_core/src", file)) }
    states = rust["node.rs"].scan(/State::\w+.* => "(\w+)"/).flatten
    reasons = rust["notice.rs"].scan(/Reason::\w+.* => "(\w+)"/).flatten
    expect(states.size).to eq(7)
    expect(reasons.size).to be > 10
    expect(page.scan(/^\| `(\w+)(?:\(code\))?` \|/).flatten).to include(*states, *reasons, "unhealthy")
  end
end
