from masa.cli.app import main

main()
