# frozen_string_literal: true

require "spec_helper"

RSpec.describe "docs/fork_safety.md" do
  let(:page) { File.read(File.expand_path("../../docs/fork_safety.md", __dir__)) }

  it "shows the error as it is printed" do
    code = page[/## What it looks like\n\n```ruby\n(.*?)```/m, 1]
    text = page[/## What it looks like.*?```text\n(.*?)\n```/m, 1]
    result = run_ruby(code, library: nil)
    expect(result).not_to be_success
    # Ruby puts the place before the message and the class behind it, also between its lines.
    expect(result.err.gsub(/\e\[\d*m/, "")).to include "#{text} (SwarmNative::ForkRefused)"
  end

  it "names examples that are there and parse" do
    examples = page.scan(%r{\]\(\.\./(examples/[^)]+)\)}).flatten
    expect(examples.size).to eq 3
    examples.each do |example|
      path = File.expand_path("../../#{example}", __dir__)
      expect { RubyVM::InstructionSequence.compile(File.read(path)) }.not_to raise_error
    end
  end
end
