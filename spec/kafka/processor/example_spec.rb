# frozen_string_literal: true

require "spec_helper"

RSpec.describe "the example of a swarm without Karafka" do
  path = File.join(ROOT, "examples", "without_karafka.rb")

  it "is the one in the folder of examples" do
    expect(File.read(File.join(ROOT, "docs", "kafka.md"))).to include("```ruby\n#{File.read(path)}```\n")
  end

  it "bills every order but the one that cannot be, and stops at Ctrl-C with nothing left behind" do
    result = run_ruby("$stdout.sync = true\n#{File.read(path)}", deadline: 40) do |running|
      wait_until(30, "all orders") { running.out.scan(/bills order \d+/).uniq.size == 59 }
      wait_until(30, "the dead letter") { running.err.include?("dead_letter invalid value for Integer") }
      Process.kill(:INT, -running.pid)
    end
    expect(result).to be_success, result.inspect
  end

  it "has each setting and each event in its page as the code has it" do
    page = File.read(File.join(ROOT, "docs", "kafka.md"))[/^## Processor.*?^## /m]
    known = SwarmNative::Kafka::Processor.const_get(:Settings)::KNOWN.keys.map(&:to_s)
    expect(page[/^\| setting.*?\n\n/m].scan(/^\| ((?:`\w+` ?)+)\|/).flatten.join.scan(/\w+/)).to match_array known
    events = page[/^\| event.*?\n\n/m].scan(/^\| ((?:`:\w+` ?)+)\|/).flatten.join.scan(/\w+/)
    expect(events.map(&:to_sym)).to match_array SwarmNative::Kafka::Processor::Event::NAMES
  end
end
