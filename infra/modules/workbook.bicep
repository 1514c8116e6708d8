// One page of the portal for one app: its namespace in charts, and the saved queries.

param suffix string
param location string
param tags object
param workspaceId string
param namespaceId string
param appName string

var content = loadTextContent('../workbook.json')
var ofThisApp = replace(replace(content, '{app}', appName), '{namespaceId}', namespaceId)

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, appName, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'SQL VM Backup ${suffix}'
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: workspaceId
    serializedData: replace(ofThisApp, '{workspaceId}', workspaceId)
  }
}
